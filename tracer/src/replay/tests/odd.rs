//! Captures with something wrong, or odd, in them.

use std::path::PathBuf;

use super::{FULL, Player, SECOND_NS, Show, incidents, press, screen, written};
use crate::{
    capture::{
        Item,
        block::Encoder,
        content::{End, Header},
        frame::{FORMAT, Kind},
        reader::Reader,
        writer::Writer,
    },
    event::Loss,
    live::listing::Listing,
};
use tracer_ebpf::{ABI_VERSION, RAW_EVENT_SIZE};

/// A directory of this test's own.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("socklife-replay-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Records of a real kernel, but of these times, in a capture.
fn at_times(header: Header, times: &[u64], loss: Option<Loss>) -> Vec<u8> {
    let mut reader = Reader::open(std::fs::File::open(incidents()).unwrap()).unwrap();
    let records = loop {
        if let Some(Item::Records(records)) = reader.next_item().unwrap() {
            break records;
        }
    };
    let header = Header { format: FORMAT, abi: ABI_VERSION, record_size: RAW_EVENT_SIZE, ..header };
    let mut encoder = Encoder::new().unwrap();
    let mut writer = Writer::new(Vec::new(), &header).unwrap();
    for (&time, record) in times.iter().zip(records.chunks_exact(RAW_EVENT_SIZE)) {
        let mut record = record.to_vec();
        record[8..16].copy_from_slice(&time.to_le_bytes());
        encoder.records(&record, |_| unreachable!("a full block")).unwrap();
        writer.put(&encoder.seal().unwrap().unwrap()).unwrap();
        if let Some(loss) = loss {
            let loss = serde_json::to_vec(&loss).unwrap();
            writer.put(&encoder.other(Kind::Lost, time, &loss).unwrap()).unwrap();
            let listing = Listing { at_ns: time, cost_s: f64::MAX, ..Listing::default() };
            let listing = serde_json::to_vec(&listing).unwrap();
            writer.put(&encoder.other(Kind::Sample, time, &listing).unwrap()).unwrap();
        }
    }
    let at_ns = times.last().copied().unwrap_or(0);
    writer.end(&End { at_ns, ..End::default() }).unwrap().0
}

#[test]
fn time_without_anything_is_passed_over() {
    let directory = Directory::new("gap");
    // Two events, then one after an hour and a half second.
    let times = [7 * SECOND_NS, 8 * SECOND_NS, 3608 * SECOND_NS + SECOND_NS / 2];
    let path = directory.file("gap", &at_times(Header::default(), &times, None));
    let mut show = Show::of(&path, FULL);
    show.wait(121);
    assert_eq!((show.second(), show.model.tail.total()), (3601, 2));
    show.wait(2);
    assert_eq!((show.second(), show.model.tail.total()), (3602, 3));
    assert!(show.model.replay.as_ref().unwrap().ended);
    let straight = show.all();
    show.keys("g -30m enter");
    assert_eq!(show.model.tail.total(), 2);
    // From within it, too.
    show.keys("space");
    show.wait(3);
    assert_eq!(show.all(), straight);
}

#[test]
fn absurd_times_and_figures_do_no_harm() {
    let directory = Directory::new("absurd");
    let absurd = Header {
        host: "\u{1b}[2Jhost".to_owned(),
        started_ns: u64::MAX,
        epoch_ns: u64::MAX,
        own_netns: Some(u32::MAX),
        unseen: vec!["\u{1b}[31mall".to_owned()],
        arguments: vec!["\u{202e}".to_owned()],
        ..Header::default()
    };
    let most = u64::MAX;
    let loss =
        Loss { ts_ns: most, states: most, failures: most, missed: most, owners: most, calls: most };
    for times in [
        &[1, most, 5, most - 1, 0, 7][..],
        &[most; 4],
        &[0; 4],
        &[],
        &[1, 1 << 40, 1 << 50, 1 << 60, 1 << 62, 1 << 63, 3],
        &[1 << 62, 1 << 40, 1],
    ] {
        let path = directory.file("absurd", &at_times(absurd.clone(), times, Some(loss)));
        let mut show = Show::of(&path, FULL);
        show.wait(3);
        for keys in [
            "g 50% enter",
            "n",
            "g +9999999999999h enter",
            "0",
            "n",
            "4",
            "2",
            "5",
            "+ + + + + + + +",
            "g 12:00:00 enter",
            "[",
            "left left",
            ".",
            "space",
            "g 100% enter",
            "?",
            "?",
            "1",
        ] {
            show.keys(keys);
            show.wait(1);
            let text = screen(&show.model, 200, 50);
            assert!(
                text.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'),
                "{text}"
            );
        }
        show.all();
        assert!(show.model.replay.as_ref().unwrap().ended);
    }
}

#[test]
fn what_is_missing_is_said() {
    let directory = Directory::new("missing");
    let file = |name: &str, bytes: &[u8]| directory.file(name, bytes);
    let whole = std::fs::read(incidents()).unwrap();
    let cut = file("cut\u{1b}[31m.socklife", &whole[..whole.len() * 2 / 3]);
    let mut show = Show::of(&cut, FULL);
    assert!(show.text().contains("CUT OFF"), "{}", show.text());
    show.keys("g 100% enter");
    let text = screen(&show.model, 200, 50);
    assert!(text.contains(r"cut\u{1b}[31m.socklife") && text.contains("DAMAGED"), "{text}");

    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 4096].fill(0);
    let mut show = Show::of(&file("damaged", &damaged), FULL);
    assert!(!show.text().contains("DAMAGED"), "{}", show.text());
    show.keys("g 100% enter");
    let text = show.text();
    assert!(text.contains("DAMAGED") && text.contains("events missing"), "{text}");
    assert!(text.contains("EVENTS MISSING"), "{text}");
    // At least: rates and counts say so.
    let table = written(press(&mut show.model, "2 y"));
    assert!(table.contains("+ means: at least") && table.contains("DAMAGED"), "{table}");

    for (name, bytes) in [("none", &b"GET / HTTP/1.1"[..]), ("empty", b"")] {
        let error = Player::open(&file(name, bytes)).err().unwrap();
        assert!(format!("{error:#}").contains("no capture of socklife"), "{error:#}");
    }
    assert!(Player::open(&directory.0.join("gone")).is_err());
    let error = Player::open(&directory.0).err().unwrap();
    assert!(format!("{error:#}").contains("is no file that one can go back in"), "{error:#}");
}
