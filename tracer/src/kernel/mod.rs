//! All that touches the kernel.

pub mod btf;
pub mod cgroup;
pub mod globals;
pub mod ground;
pub mod hooks;
pub mod ladder;
pub mod loader;
pub mod netns;
pub mod privilege;
pub mod ring;
pub mod sock_diag;
pub mod tracefs;
