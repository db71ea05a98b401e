//! What frames hold besides records, as JSON. A reader ignores keys that it doesn't know; what a later version adds
//! has a default.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracer_ebpf::{ABI_VERSION, RAW_EVENT_SIZE};

use super::frame::FORMAT;
use crate::{
    event::visible,
    kernel::{
        features::{self, Feature},
        ground, host,
        loader::Kernel,
        netns,
        ring::{boot_epoch_ns, boot_time_ns},
        settings::Settings,
        survey::Survey,
    },
    live::shot::Hook,
};

/// Where, when and how a capture was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    /// Version of the format.
    pub format: u16,
    /// Version of the layout of records.
    pub abi: u16,
    /// Bytes of a record.
    pub record_size: usize,
    /// Version of socklife.
    pub socklife: String,
    /// Name of the host.
    pub host: String,
    /// Id of this boot of the host (`/proc/sys/kernel/random/boot_id`): times and cookies are of it.
    pub boot_id: String,
    /// `uname -r`.
    pub kernel: String,
    /// `uname -m`.
    pub machine: String,
    /// Processors.
    pub cpus: usize,
    /// When it was begun, RFC 3339.
    pub started: String,
    /// The same, nanoseconds since boot.
    pub started_ns: u64,
    /// Nanoseconds between the Unix epoch and boot: what turns a record's time into a date.
    pub epoch_ns: u64,
    /// The command line, with filters.
    pub arguments: Vec<String>,
    /// The network namespace of who recorded it.
    pub own_netns: Option<u32>,
    /// The hook of each kind of event.
    pub hooks: Vec<Hook>,
    /// Kinds of events that no hook of this kernel shows.
    pub unseen: Vec<String>,
    /// Which file of a recording in several ones this is, from 1.
    pub part: u32,
    /// What it was written for: `EADDRNOTAVAIL>100/s`.
    pub trigger: Option<String>,
    /// Time zone of who recorded, as [`crate::logs::zone::of`] understands it: that of logs beside the capture.
    pub zone: String,
}

impl Header {
    /// Of a recording that begins now.
    #[must_use]
    pub fn now(kernel: &Kernel) -> Self {
        let arguments = std::env::args_os().skip(1);
        let unseen = kernel.unseen().iter().map(|unseen| unseen.hooked.unseen().to_owned());
        let mut header = Self {
            format: FORMAT,
            abi: ABI_VERSION,
            record_size: RAW_EVENT_SIZE,
            socklife: env!("CARGO_PKG_VERSION").to_owned(),
            host: host::name(),
            boot_id: host::boot_id(),
            kernel: ground::release(),
            machine: host::machine(),
            cpus: host::cpus(),
            arguments: arguments.map(|word| visible(word.as_encoded_bytes())).collect(),
            own_netns: netns::own(),
            hooks: features::in_use(kernel).into_iter().filter_map(Feature::hook).collect(),
            unseen: unseen.collect(),
            part: 1,
            zone: host::zone(),
            ..Self::default()
        };
        header.begin_now();
        header
    }

    /// A file of the same recording that begins now.
    #[must_use]
    pub fn next_part(&self) -> Self {
        let mut header = Self { part: self.part + 1, ..self.clone() };
        header.begin_now();
        header
    }

    /// Another recording of the same that begins now.
    #[must_use]
    pub fn again(&self) -> Self {
        let mut header = self.clone();
        header.begin_now();
        header
    }

    fn begin_now(&mut self) {
        self.started = Timestamp::now().to_string();
        // The clock may have been set since.
        (self.started_ns, self.epoch_ns) = (boot_time_ns(), boot_epoch_ns());
    }
}

/// Settings of the host at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sysctls {
    /// When they were read: nanoseconds since boot.
    pub at_ns: u64,
    /// Those of the host: `fs.file-max`, ...
    pub host: BTreeMap<String, String>,
    /// Those of network namespaces.
    pub namespaces: Vec<NamespaceSysctls>,
}

/// Settings of a network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamespaceSysctls {
    /// Inode number.
    pub netns: u32,
    /// A file that stands for it, by the eyes of who recorded; `None`: it is their own.
    pub path: Option<String>,
    /// By name, as `sysctl` prints them.
    pub sysctls: BTreeMap<String, String>,
}

impl Sysctls {
    /// As a survey found them.
    #[must_use]
    pub fn of(survey: &Survey) -> Self {
        let number = |name: &str, value: Option<u64>| Some((name.to_owned(), value?.to_string()));
        let host = [
            number("fs.file-max", survey.host_files.map(|(_, room)| room)),
            number("fs.nr_open", survey.nr_open),
        ];
        let namespaces = survey.namespaces.iter().map(|namespace| NamespaceSysctls {
            netns: namespace.netns,
            path: namespace.path.as_ref().map(|path| visible(path.as_os_str().as_encoded_bytes())),
            sysctls: by_name(&namespace.settings, namespace.conntrack.map(|table| table.max)),
        });
        Self {
            at_ns: survey.at_ns,
            host: host.into_iter().flatten().collect(),
            namespaces: namespaces.collect(),
        }
    }

    /// Whether they are the same, whenever they were read.
    #[must_use]
    pub fn are_as(&self, other: &Self) -> bool {
        (&self.host, &self.namespaces) == (&other.host, &other.namespaces)
    }
}

fn by_name(settings: &Settings, conntrack_max: Option<u64>) -> BTreeMap<String, String> {
    let mut sysctls: BTreeMap<_, _> =
        settings.by_name().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    if let Some(max) = conntrack_max {
        sysctls.insert("net.netfilter.nf_conntrack_max".to_owned(), max.to_string());
    }
    sysctls
}

/// A cgroup's path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPath {
    /// Id, as records have it.
    pub id: u64,
    /// Path in the cgroup2 hierarchy, inert.
    pub path: String,
}

/// Where a block of records is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// Bytes from the beginning of the capture to its frame.
    pub offset: u64,
    /// Records before it.
    pub events_before: u64,
    /// Time of its first record: nanoseconds since boot.
    pub first_ns: u64,
    /// Time of its last one.
    pub last_ns: u64,
}

/// Totals, at the end of a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct End {
    /// When it ended: nanoseconds since boot.
    pub at_ns: u64,
    /// Why, in words.
    pub why: String,
    /// Records in the capture.
    pub events: u64,
    /// Events that passed the filters in the kernel since the recording began, seen or lost. `None`: this file
    /// holds a part of the recording.
    pub produced: Option<u64>,
    /// Bytes from the beginning of the capture to its index; `None`: it has none.
    pub index: Option<u64>,
}
