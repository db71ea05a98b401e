//! Reads what each running Nginx says, and remembers configurations: one of 10,000 lines isn't read each second.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{
    Nginx,
    cmdline::{Candidate, Options},
    processes::{Family, families, is_named},
    program::Program,
    read::read,
    settings::Settings,
};
use crate::{
    kernel::{
        owners::{OpenFiles, Owners, socket_inodes},
        ring::boot_epoch_ns,
    },
    proxies::{
        files::Rooted,
        helpers::{Helpers, Outcome, Work},
        host::shares_root,
        turns::{Key, Turns, key},
    },
};

/// A configuration is read again after this time, or when a worker was started.
const FRESH: Duration = Duration::from_secs(30);
/// How long all of them together may take to be read. What is late counts once it is there.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most masters whose configuration is known.
const MOST: usize = 64;

/// A configuration, and when the newest of its files was changed; or why it can't be read.
type Configuration = Result<(Settings, Option<SystemTime>), String>;

/// What was read before.
#[derive(Debug, Default)]
pub(in crate::proxies) struct Reader {
    known: HashMap<Key, Known>,
    helpers: Helpers<Key, Configuration>,
    turns: Turns,
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

impl Known {
    fn new((settings, modified): (Settings, Option<SystemTime>), workers: HashSet<u32>) -> Self {
        Self { settings: Arc::new(settings), modified, workers, read: Instant::now() }
    }
}

impl Reader {
    /// Each Nginx whose master is among these processes, and why others could not be read. `given`: the configuration
    /// that is read instead of the one that a master names, where it has this process's root.
    pub(in crate::proxies) fn read(
        &mut self,
        owners: &Owners,
        given: Option<&Path>,
    ) -> (Vec<Nginx>, Vec<String>) {
        let named = owners.files.iter().filter(|files: &&OpenFiles| is_named(&files.process));
        self.read_families(families(named), given)
    }

    fn read_families(
        &mut self,
        mut families: Vec<Family>,
        given: Option<&Path>,
    ) -> (Vec<Nginx>, Vec<String>) {
        let running: HashSet<_> = families.iter().map(|it| key(&it.master)).collect();
        self.known.retain(|key, _| running.contains(key));
        let mut unread = Vec::new();
        let uses = given.map(|path| used_by(path, &families, &mut unread));
        self.turns.sort(&mut families, |family| family.master);
        let left_out = families.split_off(families.len().min(MOST));
        for family in &left_out {
            self.known.remove(&key(&family.master));
        }
        let outcomes = self.read_anew(&families, given.zip(uses.as_ref()));

        let mut found = Vec::new();
        for family in families {
            let process = family.master.process;
            let why = outcomes.get(&key(&family.master));
            if let Some(why) = why {
                unread.push(format!("configuration of {}[{}]: {why}", process.comm, process.pid));
            }
            self.turns.note(key(&family.master), why.is_none());
            if let Some(known) = self.known.get(&key(&family.master)) {
                found.push(known.of(family));
            }
        }
        if let (Some(given), Some(Uses::Only), [only]) = (given, &uses, found.as_slice())
            && only.settings.files.first().is_none_or(|read| read != given)
        {
            unread.push(format!(
                "--nginx-conf {} is not used: the only Nginx has a root of its own, and a configuration there that \
                 can be read",
                given.display()
            ));
        }
        found.sort_by_key(|it| it.master.process.pid);
        if !left_out.is_empty() {
            unread.push(format!(
                "configurations of Nginx, not read: of more than {MOST} masters: {}",
                left_out.len()
            ));
        }
        (found, unread)
    }

    /// Reads what isn't known, or not lately. Why others could not be read: an older one counts while a newer one is
    /// on its way.
    fn read_anew(
        &mut self,
        families: &[Family],
        given: Option<(&Path, &Uses)>,
    ) -> HashMap<Key, String> {
        let workers = |family: &Family| -> HashSet<u32> {
            family.workers.iter().map(|worker| worker.located.process.pid).collect()
        };
        let by_key: HashMap<Key, &Family> =
            families.iter().map(|family| (key(&family.master), family)).collect();
        for (key, late) in self.helpers.late() {
            // What failed late is asked again.
            if let (Some(family), Ok(late)) = (by_key.get(&key), late) {
                self.known.insert(key, Known::new(late, workers(family)));
            }
        }
        let is_fresh = |family: &Family| {
            let known = self.known.get(&key(&family.master));
            known.is_some_and(|it| it.workers == workers(family) && it.read.elapsed() < FRESH)
        };
        let work = families.iter().filter(|family| !is_fresh(family)).map(|family| {
            let (pid, title) = (family.master.process.pid, family.title.clone());
            let given = given.map_or(From::Own, |(path, uses)| uses.of(family, path));
            let work: Work<Configuration> = Box::new(move || configuration(pid, &title, given));
            (key(&family.master), work)
        });
        let work: Vec<_> = work.collect();
        let mut failed = HashMap::new();
        for (key, outcome) in self.helpers.run(work, Instant::now() + PATIENCE) {
            let why = match outcome {
                Outcome::Done(Ok(read)) => {
                    let workers = by_key.get(&key).map(|it| workers(it)).unwrap_or_default();
                    self.known.insert(key, Known::new(read, workers));
                    continue;
                }
                Outcome::Done(Err(why)) => {
                    self.known.remove(&key);
                    format!("{why}; --nginx-conf names another file")
                }
                Outcome::Stuck => {
                    "its files are not there in time; it is not read again until they are"
                        .to_owned()
                }
                Outcome::NotBegun => {
                    "not read: the files of others are not there in time".to_owned()
                }
            };
            failed.insert(key, why);
        }
        failed
    }
}

impl Known {
    fn of(&self, family: Family) -> Nginx {
        let since = family.workers.iter().filter(|worker| !worker.shutting_down);
        let oldest = since.map(|worker| worker.located.process.started_ns).min();
        let changed_since = match (self.modified, oldest) {
            (Some(modified), Some(oldest)) => modified > wall_clock(oldest),
            _ => false,
        };
        Nginx {
            listening: socket_inodes(family.master.process.pid),
            master: family.master,
            workers: family.workers,
            settings: Arc::clone(&self.settings),
            changed_since,
        }
    }
}

fn wall_clock(since_boot_ns: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(boot_epoch_ns().saturating_add(since_boot_ns))
}

/// Whose configuration is in the file that was given.
#[derive(Debug)]
enum Uses {
    /// Of these masters, by their process ids.
    Those(HashSet<u32>),
    /// Of the only one, where its own can't be read.
    Only,
}

/// Where a master's configuration is read from.
#[derive(Debug)]
enum From {
    /// Where it says.
    Own,
    /// This file, as this process sees it.
    Given(PathBuf),
    /// Where it says, else that file.
    OwnOrGiven(PathBuf),
}

impl Uses {
    fn of(&self, family: &Family, given: &Path) -> From {
        match self {
            Self::Those(masters) if masters.contains(&family.master.process.pid) => {
                From::Given(given.to_owned())
            }
            Self::Those(_) => From::Own,
            Self::Only => From::OwnOrGiven(given.to_owned()),
        }
    }
}

/// A file is given for what sees the same files as this process: other masters have their own.
fn used_by(given: &Path, families: &[Family], unread: &mut Vec<String>) -> Uses {
    let masters = families.iter().map(|family| family.master.process.pid);
    let those: HashSet<u32> = masters.filter(|&pid| shares_root(pid)).collect();
    let shown = given.display();
    if those.is_empty() && families.len() == 1 {
        return Uses::Only;
    }
    if those.is_empty() && !families.is_empty() {
        unread.push(format!(
            "--nginx-conf {shown} is not used: {} Nginx run, each with a root of its own",
            families.len()
        ));
    }
    if those.len() > 1 {
        let mut pids: Vec<_> = those.iter().collect();
        pids.sort_unstable();
        unread.push(format!(
            "{} Nginx run with this root: what is told of all of them is by --nginx-conf {shown} (processes {})",
            pids.len(),
            pids.iter().take(20).map(ToString::to_string).collect::<Vec<_>>().join(", ")
        ));
    }
    Uses::Those(those)
}

/// What the configuration of a master says.
fn configuration(pid: u32, title: &[u8], from: From) -> Configuration {
    let options = Options::of(title);
    let Program { version, built } = Program::of_process(pid);
    let own = || {
        let rooted = Rooted::of(pid)
            .map_err(|error| format!("/proc/{pid}/root: {error} (needs CAP_SYS_PTRACE)"))?;
        let candidates = options.candidates(&built, &rooted.cwd);
        of_candidates(&rooted, candidates, &options.globals)
    };
    // What a person names is seen from here, with all that it includes.
    let given = |path: PathBuf| {
        let prefix = path.parent().unwrap_or(Path::new("/")).to_owned();
        let rooted = Rooted::of(std::process::id()).map_err(|error| error.to_string())?;
        of_candidates(&rooted, vec![Candidate { main: path, prefix }], &options.globals)
    };
    let read = match from {
        From::Own => own(),
        From::Given(path) => given(path),
        From::OwnOrGiven(path) => own().or_else(|_| given(path)),
    };
    read.map(|(settings, modified)| (Settings { version, ..settings }, modified))
}

fn of_candidates(files: &Rooted, candidates: Vec<Candidate>, globals: &str) -> Configuration {
    let mut first_error = None;
    for Candidate { main, prefix } in candidates {
        match read(files, &main, &prefix, globals) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxies::{Located, host};

    fn family(master: Located, title: &str) -> Family {
        let title = format!("nginx: master process {title}").into_bytes();
        Family { master, title, workers: Vec::new() }
    }

    fn with_pid(pid: u32) -> Located {
        let mut located = host::located(std::process::id()).unwrap();
        located.process.pid = pid;
        located
    }

    /// A file, and its path.
    fn conf(directory: &tempfile::TempDir, connections: u64) -> PathBuf {
        let path = directory.path().join(format!("{connections}.conf"));
        std::fs::write(&path, format!("events {{ worker_connections {connections}; }}")).unwrap();
        path
    }

    #[test]
    fn a_given_file_is_for_those_with_this_root() {
        let directory = tempfile::tempdir().unwrap();
        let (own, given) = (conf(&directory, 7), conf(&directory, 9));
        let me = std::process::id();
        let title = format!("nginx -c {}", own.display());
        let read = |masters: &[u32], title: &str, given: Option<&Path>| {
            let families = masters.iter().map(|&pid| family(with_pid(pid), title)).collect();
            let (found, unread) = Reader::default().read_families(families, given);
            let limits = found.iter().map(|it| it.settings.worker_connections.value);
            (limits.collect::<Vec<_>>(), unread)
        };
        assert_eq!(read(&[me], &title, None), (vec![7], vec![]));
        assert_eq!(read(&[me], &title, Some(&given)), (vec![9], vec![]));
        // One that is gone has no root; the other one has this one.
        let (found, unread) = read(&[me, u32::MAX], &title, Some(&given));
        assert_eq!((found, unread.len()), (vec![9], 1), "{unread:?}");
        assert!(unread[0].contains("/proc/4294967295/root"), "{unread:?}");
        // The only one, whose own can't be read.
        assert_eq!(read(&[u32::MAX], &title, Some(&given)), (vec![9], vec![]));
        let (found, unread) = read(&[u32::MAX, u32::MAX - 1], &title, Some(&given));
        assert_eq!((found, unread.len()), (vec![], 3), "{unread:?}");
        assert!(unread[0].contains("is not used: 2 Nginx run"), "{unread:?}");
        let parent = std::os::unix::process::parent_id();
        let (found, unread) = read(&[me, parent], &title, Some(&given));
        assert_eq!((found, unread.len()), (vec![9, 9], 1), "{unread:?}");
        assert!(unread[0].starts_with("2 Nginx run with this root"), "{unread:?}");
    }

    #[test]
    fn so_many_are_known_and_the_rest_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let title = format!("nginx -c {}", conf(&directory, 7).display());
        let me = with_pid(std::process::id());
        let families = |more: u64| {
            let master = |at| {
                let mut master = me;
                master.process.started_ns = at;
                family(master, &title)
            };
            (0..MOST as u64 + more).map(master).collect()
        };
        let mut reader = Reader::default();
        let (found, unread) = reader.read_families(families(3), None);
        assert_eq!((found.len(), reader.known.len(), unread.len()), (MOST, MOST, 1), "{unread:?}");
        assert!(unread[0].ends_with("of more than 64 masters: 3"), "{unread:?}");
    }
}
