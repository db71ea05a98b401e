//! What an Nginx is: its version, and what it was built with, as its program holds them to print for `-V`.

use std::{fs::File, io::Read};

use super::cmdline::Built;

/// Longest program that is looked through.
const LONGEST: u64 = 32 << 20;

/// A version: `1.22.1`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Version(pub u32, pub u32, pub u32);

/// From then on connections to upstreams are kept by default (`CHANGES` of Nginx).
pub const KEEPS: Version = Version(1, 29, 7);

/// A program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Which Nginx it is; `None`: not known. Forks with versions of their own are not.
    pub version: Option<Version>,
    /// How it was built.
    pub built: Built,
}

impl Program {
    /// Of a running process; what can't be read is not known.
    #[must_use]
    pub fn of_process(pid: u32) -> Self {
        let mut bytes = Vec::new();
        let read = File::open(format!("/proc/{pid}/exe"))
            .and_then(|program| program.take(LONGEST).read_to_end(&mut bytes));
        read.map_or_else(|_| Self::default(), |_| Self::of(&bytes))
    }

    /// From its bytes.
    #[must_use]
    pub fn of(program: &[u8]) -> Self {
        Self { version: version(program), built: Built::of(program) }
    }
}

/// `nginx version: nginx/1.22.1`, `nginx version: openresty/1.25.3.1`: `OpenResty`'s fourth number is its own
/// (`src/core/nginx.c`, `ngx_show_version_info`).
fn version(program: &[u8]) -> Option<Version> {
    const BEFORE: &[u8] = b"nginx version: ";
    let found = memchr::memmem::find(program, BEFORE)?;
    let rest = program.get(found + BEFORE.len()..)?;
    let rest = rest.strip_prefix(b"nginx/").or_else(|| rest.strip_prefix(b"openresty/"))?;
    let end = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.')?;
    let mut numbers = std::str::from_utf8(rest.get(..end)?).ok()?.split('.');
    let mut next = || numbers.next()?.parse().ok();
    Some(Version(next()?, next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let of = |text: &str| Program::of(text.as_bytes()).version;
        assert_eq!(of("\0nginx version: nginx/1.22.1\n\0"), Some(Version(1, 22, 1)));
        assert_eq!(of("nginx version: nginx/1.29.10 (Ubuntu)\n"), Some(Version(1, 29, 10)));
        assert_eq!(of("nginx version: openresty/1.25.3.1\n"), Some(Version(1, 25, 3)));
        for other in
            ["nginx version: freenginx/1.29.0\n", "nginx version: nginx/1.x\n", "nginx/1.2.3", ""]
        {
            assert_eq!(of(other), None, "{other}");
        }
        assert!(Version(1, 30, 0) > KEEPS && Version(1, 29, 6) < KEEPS);
    }
}
