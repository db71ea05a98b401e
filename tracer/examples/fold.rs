//! How many events a second are decoded and folded into the table and the live view's moment: the records of a real
//! incident, again and again.
//!
//! ```sh
//! cargo run --release --example fold
//! ```

#![expect(clippy::print_stdout, reason = "its purpose")]

use std::{error::Error, time::Instant};

use bytes::Bytes;
use socklife::{
    decode::decode,
    live::{
        Live,
        captured::{Captured, Step},
        tail::Tail,
    },
    table::{Selection, Table},
};

const INCIDENT: &[u8] = include_bytes!("../fixtures/nginx-ports.postcard");
const ROUNDS: u32 = 500;

fn main() -> Result<(), Box<dyn Error>> {
    let captured: Captured = postcard::from_bytes(INCIDENT)?;
    let of_records =
        |step| if let Step::Records(records) = step { Some(Bytes::from(records)) } else { None };
    let batches: Vec<Bytes> = captured.steps.into_iter().filter_map(of_records).collect();
    for (what, all) in [("decode and table", false), ("and the live view", true)] {
        let (mut table, mut live, mut tail) =
            (Table::new(Selection::All), Live::new(None), Tail::default());
        let begun = Instant::now();
        for batch in (0..ROUNDS).flat_map(|_| &batches) {
            for event in decode(batch) {
                let mut event = event?;
                let change = table.apply(&mut event);
                if all {
                    live.event(&event, &change);
                    tail.push(&event, change.failure().copied());
                }
            }
        }
        let millions = begun.elapsed().as_secs_f64() * 1e6;
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = table.seen() as f64 / millions;
        println!("{what:<18} {rate:.1} million events a second, {} events", table.seen());
    }
    Ok(())
}
