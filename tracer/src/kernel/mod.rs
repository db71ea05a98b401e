//! All that touches the kernel.

pub mod btf;
pub mod cgroup;
pub mod conntrack;
pub mod counters;
pub mod features;
pub mod globals;
pub mod ground;
pub mod hooks;
pub mod host;
pub mod ladder;
pub mod loader;
pub mod netlink;
pub mod netns;
pub mod owners;
pub mod privilege;
pub mod proc_net;
pub mod process;
pub mod ring;
pub mod settings;
pub mod snapshot;
pub mod sock_diag;
pub mod survey;
pub mod tables;
pub mod time_wait;
pub mod tracefs;
