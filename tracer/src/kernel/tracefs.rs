//! The tracing file system: whether it is mounted, and how a tracepoint's record is laid out.

use std::{path::PathBuf, sync::OnceLock};

use anyhow::{Context, Result, anyhow};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use tracer_ebpf::globals::TRACEPOINT_FIELDS;

/// Where distributions mount it.
const MOUNTS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// What a person can do when it isn't mounted.
const NOT_MOUNTED: &str = "tracefs is not mounted at /sys/kernel/tracing or /sys/kernel/debug/tracing: \
                           mount it with `mount -t tracefs tracefs /sys/kernel/tracing`";

/// Where tracefs is mounted.
fn mounted() -> Option<PathBuf> {
    MOUNTS.iter().map(PathBuf::from).find(|mount| mount.join("events").is_dir())
}

/// Where tracefs is mounted. Where it isn't, it is mounted for the calling thread alone and those that it
/// starts: in a mount namespace of its own, so that nothing changes for anybody else. It goes with the
/// process.
///
/// # Errors
/// It isn't mounted, and this process may not mount it.
pub fn provide() -> Result<PathBuf> {
    if let Some(mount) = mounted() {
        return Ok(mount);
    }
    let mount = |source: &str, target: &str, kind: Option<&str>, flags: MsFlags| {
        mount(Some(source), target, kind, flags, None::<&str>)
    };
    unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount("none", "/", None, MsFlags::MS_REC | MsFlags::MS_SLAVE))
        .and_then(|()| mount("tracefs", MOUNTS[0], Some("tracefs"), MsFlags::empty()))
        .map_err(|error| anyhow!("{NOT_MOUNTED} (socklife may not mount it itself: {error})"))?;
    _ = PRIVATE.set(());
    Ok(PathBuf::from(MOUNTS[0]))
}

/// Set when tracefs was mounted for this process alone.
static PRIVATE: OnceLock<()> = OnceLock::new();

/// Whether tracefs is mounted, in words.
#[must_use]
pub fn state() -> &'static str {
    match (mounted(), PRIVATE.get()) {
        (None, _) => NOT_MOUNTED,
        (Some(_), None) => "yes",
        (Some(_), Some(())) => "not mounted; socklife mounts it for itself alone",
    }
}

/// The directory of `sock:inet_sock_set_state`.
fn state_tracepoint() -> Result<PathBuf> {
    let directory = provide()?.join("events/sock/inet_sock_set_state");
    if directory.is_dir() {
        Ok(directory)
    } else {
        Err(anyhow!("this kernel has no tracepoint sock:inet_sock_set_state (it came with 4.16)"))
    }
}

/// Offsets of the tracepoint's fields in its record, by the name of the global that takes each.
///
/// # Errors
/// As [`provide`]; this kernel has no such tracepoint (before 4.16), or the format file lacks a field.
pub fn state_fields() -> Result<Vec<(&'static str, u32)>> {
    let path = state_tracepoint()?.join("format");
    let format =
        std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
    TRACEPOINT_FIELDS
        .iter()
        .map(|&(global, field)| {
            let offset = field_offset(&format, field)
                .ok_or_else(|| anyhow!("{} has no field {field}", path.display()))?;
            Ok((global, offset))
        })
        .collect()
}

/// The offset in a line that declares a field and, behind semicolons, gives `offset:24`.
fn field_offset(format: &str, field: &str) -> Option<u32> {
    format.lines().find_map(|line| {
        let mut parts = line.trim().split(';').map(str::trim);
        let declared = parts.next()?.strip_prefix("field:")?;
        let name = declared.rsplit([' ', '*']).next()?;
        let name = name.split('[').next()?;
        if name != field {
            return None;
        }
        parts.next()?.strip_prefix("offset:")?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::field_offset;

    #[test]
    fn reads_the_format_file() {
        let format = "\tfield:const void * skaddr;\toffset:8;\tsize:8;\tsigned:0;\n\
                      \tfield:__u16 sport;\toffset:24;\tsize:2;\tsigned:0;\n\
                      \tfield:__u8 saddr_v6[16];\toffset:40;\tsize:16;\tsigned:0;\n";
        assert_eq!(field_offset(format, "skaddr"), Some(8));
        assert_eq!(field_offset(format, "sport"), Some(24));
        assert_eq!(field_offset(format, "saddr_v6"), Some(40));
        assert_eq!(field_offset(format, "saddr"), None);
    }
}
