//! Reads what each running Nginx says, and remembers configurations: one of 10,000 lines isn't read each second.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{
    Nginx,
    cmdline::{Built, Candidate, Options},
    processes::{Family, families, is_named},
    read::read,
    settings::Settings,
};
use crate::{
    kernel::{
        owners::{OpenFiles, Owners, socket_inodes},
        ring::boot_epoch_ns,
    },
    proxies::files::Rooted,
};

/// A configuration is read again after this time, or when a worker was started.
const FRESH: Duration = Duration::from_secs(30);

/// What was read before.
#[derive(Debug, Default)]
pub(in crate::proxies) struct Reader {
    known: HashMap<(u32, u64), Known>,
}

/// A configuration.
#[derive(Debug)]
struct Known {
    settings: Arc<Settings>,
    /// When the newest of its files was changed.
    modified: Option<SystemTime>,
    workers: HashSet<u32>,
    read: Instant,
}

impl Reader {
    /// Each Nginx whose master is among these processes, and why others could not be read. `given`: the configuration
    /// that is read instead of the one that a master names.
    pub(in crate::proxies) fn read(
        &mut self,
        owners: &Owners,
        given: Option<&Path>,
    ) -> (Vec<Nginx>, Vec<String>) {
        let named = owners.files.iter().filter(|files: &&OpenFiles| is_named(&files.process));
        let (mut found, mut unread) = (Vec::new(), Vec::new());
        let families = families(named);
        let key = |family: &Family| (family.master.process.pid, family.master.process.started_ns);
        let running: HashSet<_> = families.iter().map(key).collect();
        self.known.retain(|key, _| running.contains(key));
        for family in families {
            let workers: HashSet<u32> =
                family.workers.iter().map(|worker| worker.located.process.pid).collect();
            let fresh = self
                .known
                .get(&key(&family))
                .filter(|known| known.workers == workers && known.read.elapsed() < FRESH);
            let (settings, modified) = match fresh {
                Some(known) => (Arc::clone(&known.settings), known.modified),
                None => match configuration(&family, given) {
                    Ok((settings, modified)) => {
                        let settings = Arc::new(settings);
                        let known = Known {
                            settings: Arc::clone(&settings),
                            modified,
                            workers,
                            read: Instant::now(),
                        };
                        self.known.insert(key(&family), known);
                        (settings, modified)
                    }
                    Err(why) => {
                        let process = family.master.process;
                        unread.push(format!(
                            "configuration of {}[{}]: {why}; --nginx-conf names another file",
                            process.comm, process.pid
                        ));
                        continue;
                    }
                },
            };
            let since = family.workers.iter().filter(|worker| !worker.shutting_down);
            let oldest = since.map(|worker| worker.located.process.started_ns).min();
            let changed_since = match (modified, oldest) {
                (Some(modified), Some(oldest)) => modified > wall_clock(oldest),
                _ => false,
            };
            found.push(Nginx {
                listening: socket_inodes(family.master.process.pid),
                master: family.master,
                workers: family.workers,
                settings,
                changed_since,
            });
        }
        (found, unread)
    }
}

fn wall_clock(since_boot_ns: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(boot_epoch_ns().saturating_add(since_boot_ns))
}

/// What the configuration of a family says, and when the newest of its files was changed.
fn configuration(
    family: &Family,
    given: Option<&Path>,
) -> Result<(Settings, Option<SystemTime>), String> {
    let pid = family.master.process.pid;
    let options = Options::of(&family.title);
    let rooted = Rooted::of(pid)
        .map_err(|error| format!("/proc/{pid}/root: {error} (needs CAP_SYS_PTRACE)"))?;
    // What a person names is seen from here, with all that it includes.
    let own;
    let (files, candidates) = match given {
        Some(path) => {
            let prefix = path.parent().unwrap_or(Path::new("/")).to_owned();
            let candidate = Candidate { main: path.to_owned(), prefix };
            own = Rooted::of(std::process::id()).map_err(|error| error.to_string())?;
            (&own, vec![candidate])
        }
        None => (&rooted, options.candidates(&Built::default(), &rooted.cwd)),
    };
    let mut first_error = None;
    for Candidate { main, prefix } in candidates {
        match read(files, &main, &prefix, &options.globals) {
            Ok(settings) => {
                let times = settings.files.iter().filter_map(|path| files.modified(path).ok());
                let modified = times.max();
                return Ok((settings, modified));
            }
            Err(error) => {
                first_error.get_or_insert_with(|| error.to_string());
            }
        }
    }
    Err(first_error.unwrap_or_else(|| "no candidate".to_owned()))
}
