//! Captures what comes in to the live view, as a fixture for its tests.
//!
//! ```sh
//! cargo build --release --example capture_fixture
//! sudo target/release/examples/capture_fixture SECONDS FILE NETNS...
//! ```

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use socklife::{
    filter::{self, Filter},
    kernel::{
        ladder::Hooks,
        loader::{Kernel, Options},
        netns,
        ring::{boot_epoch_ns, boot_time_ns},
        survey::{Scope, Surveyor},
    },
    live::captured::{Captured, Step},
    proxies::Given,
    source::Live,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(seconds), Some(file)) = (arguments.next(), arguments.next()) else {
        bail!("capture_fixture SECONDS FILE NETNS...");
    };
    let netns: Result<Vec<u32>> = arguments.map(|path| filter::resolve_netns(&path)).collect();
    let filter = Filter { netns: netns?, ..Filter::default() };
    let options = Options { ring_size: 8 << 20, hooks: Hooks::default(), kernel_log: false };
    let kernel = Kernel::attach(&options, &filter)?;
    let surveyor = Surveyor::new(Scope {
        namespaces: filter.which(),
        pids: Vec::new(),
        given: Given::default(),
    });
    let mut source = Live::new(kernel);
    let mut captured =
        Captured { epoch_ns: boot_epoch_ns(), own_netns: netns::own(), steps: Vec::new() };
    let end = Instant::now() + Duration::from_secs(seconds.parse().context("no seconds")?);
    let mut shots = tokio::time::interval(Duration::from_secs(1));
    while Instant::now() < end {
        tokio::select! {
            _ = shots.tick() => {
                let mut survey = surveyor.take();
                // Of the rest of this host nothing shall be in the file.
                let inside = |pid| netns::of_process(pid).is_some_and(|it| filter.netns.contains(&it));
                survey.owners.retain(inside);
                survey.host_files = None;
                captured.steps.push(Step::Survey(Box::new(survey)));
                captured.steps.push(Step::Shot(boot_time_ns()));
            }
            batch = source.next() => {
                let batch = batch?;
                if !batch.records.is_empty() {
                    captured.steps.push(Step::Records(batch.records.to_vec()));
                }
                captured.steps.extend(batch.lost.map(Step::Lost));
            }
        }
    }
    let bytes = postcard::to_stdvec(&captured)?;
    std::fs::write(&file, bytes).with_context(|| format!("can't write {file}"))
}
