//! Cgroup ids to paths: the id of a cgroup is the inode number of its directory.

use std::{
    collections::HashMap,
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::event::visible;

/// How often, at most, the hierarchy is walked for an id that is not known yet.
const WALK_EVERY: Duration = Duration::from_secs(1);
/// Most cgroups that are remembered; a host has some hundreds.
const MAX_CGROUPS: usize = 65_536;

/// Where the cgroup2 hierarchy is mounted, if anywhere.
#[must_use]
pub fn mount_point() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (at, kind) = (words.nth(1)?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(at))
    })
}

/// Paths by id, looked up when first asked for.
#[derive(Debug, Default)]
pub struct Cgroups {
    paths: HashMap<u64, String>,
    walked: Option<Instant>,
    /// They are of another host, or of another time: nothing is looked up.
    told: bool,
}

impl Cgroups {
    /// Those that one is told of, and no others.
    #[must_use]
    pub fn told() -> Self {
        Self { told: true, ..Self::default() }
    }

    /// A cgroup has this path.
    pub fn learn(&mut self, id: u64, path: String) {
        if self.paths.len() < MAX_CGROUPS {
            self.paths.insert(id, path);
        }
    }

    /// The path of a cgroup below the root of its hierarchy, `/` for the root itself; `None`:
    /// removed meanwhile, or no hierarchy is mounted.
    pub fn path(&mut self, id: u64) -> Option<&str> {
        let due = !self.told && self.walked.is_none_or(|walked| walked.elapsed() >= WALK_EVERY);
        if due && !self.paths.contains_key(&id) {
            self.walked = Some(Instant::now());
            self.paths.clear();
            if let Some(root) = mount_point() {
                self.walk(&root, &root);
            }
        }
        self.paths.get(&id).map(String::as_str)
    }

    fn walk(&mut self, root: &Path, at: &Path) {
        let Ok(found) = fs::metadata(at) else { return };
        if self.paths.len() >= MAX_CGROUPS {
            return;
        }
        let below = at.strip_prefix(root).unwrap_or(at);
        self.paths.insert(found.ino(), format!("/{}", visible(below.as_os_str().as_bytes())));
        for entry in fs::read_dir(at).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.walk(root, &entry.path());
            }
        }
    }
}
