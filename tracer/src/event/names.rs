//! Names in events: of states, of tasks, of errors; and foreign ones made inert.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tracer_ebpf::{COMM_LEN, state};

/// A TCP state, named as `ss` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct State(u8);

/// Number (`include/net/tcp_states.h`), name as `ss` prints it (iproute2, `misc/ss.c`).
const STATES: [(u8, &str); 12] = [
    (state::ESTABLISHED, "ESTAB"),
    (state::SYN_SENT, "SYN-SENT"),
    (state::SYN_RECV, "SYN-RECV"),
    (state::FIN_WAIT1, "FIN-WAIT-1"),
    (state::FIN_WAIT2, "FIN-WAIT-2"),
    (state::TIME_WAIT, "TIME-WAIT"),
    (state::CLOSE, "UNCONN"),
    (state::CLOSE_WAIT, "CLOSE-WAIT"),
    (state::LAST_ACK, "LAST-ACK"),
    (state::LISTEN, "LISTEN"),
    (state::CLOSING, "CLOSING"),
    (state::NEW_SYN_RECV, "NEW-SYN-RECV"),
];

impl State {
    /// `TCP_ESTABLISHED`
    pub const ESTABLISHED: Self = Self(state::ESTABLISHED);
    /// `TCP_SYN_SENT`
    pub const SYN_SENT: Self = Self(state::SYN_SENT);
    /// `TCP_FIN_WAIT2`
    pub const FIN_WAIT2: Self = Self(state::FIN_WAIT2);
    /// `TCP_LISTEN`
    pub const LISTEN: Self = Self(state::LISTEN);
    /// `TCP_CLOSE`
    pub const CLOSE: Self = Self(state::CLOSE);
    /// `TCP_TIME_WAIT`
    pub const TIME_WAIT: Self = Self(state::TIME_WAIT);

    /// The state with the kernel's number, 1 to 12.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        (1..=12).contains(&number).then_some(Self(number))
    }

    /// The kernel's number, 1 to 12.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// The name as `ss` prints it.
    #[must_use]
    pub fn name(self) -> &'static str {
        STATES[usize::from(self.0) - 1].1
    }
}

/// Its name where a person may read it, else its number.
impl Serialize for State {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { to.serialize_str(self.name()) } else { self.0.serialize(to) }
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            return <Cow<'_, str>>::deserialize(from)?.parse().map_err(de::Error::custom);
        }
        let number = u8::deserialize(from)?;
        Self::from_number(number).ok_or_else(|| de::Error::custom("no such state"))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for State {
    type Err = String;

    /// Takes `ss`'s printed names, its filter names (`established`, `syn-sent`, `close`, …) and the
    /// kernel's (`TCP_SYN_SENT`), in any case.
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = text.to_ascii_uppercase().replace('_', "-");
        let wanted = wanted.strip_prefix("TCP-").unwrap_or(&wanted);
        let wanted = match wanted {
            "ESTABLISHED" => "ESTAB",
            "CLOSE" | "CLOSED" => "UNCONN",
            "FIN-WAIT1" => "FIN-WAIT-1",
            "FIN-WAIT2" => "FIN-WAIT-2",
            "LISTENING" => "LISTEN",
            other => other,
        };
        STATES.iter().find(|(_, name)| *name == wanted).map(|&(number, _)| Self(number)).ok_or_else(
            || {
                let names: Vec<&str> = STATES.iter().map(|&(_, name)| name).collect();
                format!("no TCP state {text:?}; there are {}", names.join(", "))
            },
        )
    }
}

/// A task's name: at most 15 bytes, any bytes. Shown with control bytes made visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Comm([u8; COMM_LEN]);

impl Comm {
    /// From the kernel's zero-padded array.
    #[must_use]
    pub fn new(bytes: [u8; COMM_LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes before the first zero.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(COMM_LEN);
        &self.0[..end]
    }
}

impl fmt::Display for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&visible(self.bytes()))
    }
}

/// As it is shown where a person may read it, else as its bytes.
impl Serialize for Comm {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { to.collect_str(self) } else { self.0.serialize(to) }
    }
}

impl<'de> Deserialize<'de> for Comm {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if !from.is_human_readable() {
            return Deserialize::deserialize(from).map(Self);
        }
        let text = <Cow<'_, str>>::deserialize(from)?;
        let bytes =
            invisible(&text).ok_or_else(|| de::Error::custom("no such escape in a name"))?;
        let mut comm = [0; COMM_LEN];
        let room = comm.get_mut(..bytes.len());
        room.ok_or_else(|| de::Error::custom("a name of over 16 bytes"))?.copy_from_slice(&bytes);
        Ok(Self(comm))
    }
}

/// Undoes [`visible`]; `None`: it never made this.
fn invisible(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        if let Some(hex) = after.strip_prefix('x') {
            bytes.push(u8::from_str_radix(hex.get(..2)?, 16).ok()?);
            rest = &hex[2..];
        } else {
            let (hex, after) = after.strip_prefix("u{")?.split_once('}')?;
            let character = char::from_u32(u32::from_str_radix(hex, 16).ok()?)?;
            bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            rest = after;
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

/// A foreign name with everything made visible that a terminal could take for a command.
#[must_use]
pub fn visible(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            if is_inert(character) {
                text.push(character);
            } else {
                text.extend(character.escape_unicode());
            }
        }
        for byte in chunk.invalid() {
            text += &format!("\\x{byte:02x}");
        }
    }
    text
}

/// A name from a foreign capture, where it should be [`visible`] already: what is not is made so.
#[must_use]
pub fn made_visible(name: &str) -> Cow<'_, str> {
    // A backslash is what such characters were made visible with.
    let shown = |character: char| is_inert(character) || character == '\\';
    if name.chars().all(shown) {
        return Cow::Borrowed(name);
    }
    let mut text = String::with_capacity(name.len());
    for character in name.chars() {
        if shown(character) {
            text.push(character);
        } else {
            text.extend(character.escape_unicode());
        }
    }
    Cow::Owned(text)
}

/// Whether a character of a foreign name can be printed as it is: not a control character, and not
/// one that reorders or hides its neighbours (Unicode's bidirectional controls and the like).
pub(crate) fn is_inert(character: char) -> bool {
    !character.is_control()
        && character != '\\'
        && !matches!(character,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// An errno, named as the C library names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(pub u16);

/// Largest errno of Linux on the architectures of interest (`EHWPOISON`).
pub const MAX_ERRNO: u16 = 133;

impl Errno {
    /// `EADDRNOTAVAIL`
    pub const EADDRNOTAVAIL: Self = Self(nix::errno::Errno::EADDRNOTAVAIL as u16);
    /// `ECONNREFUSED`
    pub const ECONNREFUSED: Self = Self(nix::errno::Errno::ECONNREFUSED as u16);
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match nix::errno::Errno::from_raw(i32::from(self.0)) {
            nix::errno::Errno::UnknownErrno => write!(f, "errno {}", self.0),
            known => f.pad(&format!("{known:?}")),
        }
    }
}

impl FromStr for Errno {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = text.trim().to_ascii_uppercase();
        (1..=MAX_ERRNO).map(Self).find(|errno| errno.to_string() == wanted).ok_or_else(|| {
            format!(
                "no error {text:?}; names are as in errno(3), such as EADDRNOTAVAIL, ECONNREFUSED"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comm(bytes: &[u8]) -> String {
        let mut padded = [0; COMM_LEN];
        padded[..bytes.len()].copy_from_slice(bytes);
        Comm::new(padded).to_string()
    }

    #[test]
    fn hostile_names_are_made_visible() {
        assert_eq!(comm(b"nginx"), "nginx");
        assert_eq!(comm(b"a\x1b[31mb"), "a\\u{1b}[31mb");
        assert_eq!(comm(b"a\nb\x07"), "a\\u{a}b\\u{7}");
        assert_eq!(comm(b"\xff\xfeok"), "\\xff\\xfeok");
        assert_eq!(comm("a\u{202e}b".as_bytes()), "a\\u{202e}b");
        assert_eq!(comm("a\u{9b}b".as_bytes()), "a\\u{9b}b");
        assert_eq!(comm(b"a\\nb"), "a\\u{5c}nb");
        assert_eq!(comm("wörker".as_bytes()), "wörker");
        for name in
            [&b"nginx"[..], b"a\x1b[31mb", b"\xff\xfeok", b"a\\nb", "w\u{f6}\u{202e}".as_bytes()]
        {
            assert_eq!(invisible(&visible(name)).as_deref(), Some(name));
        }
        assert_eq!(invisible("\\n"), None);
        assert_eq!(invisible("\\xe\u{f6}"), None);
    }

    #[test]
    fn state_names_go_both_ways() {
        for number in 1..=12 {
            let state = State::from_number(number).unwrap();
            assert_eq!(state.name().parse::<State>().unwrap(), state);
        }
        assert_eq!("established".parse::<State>().unwrap(), State::ESTABLISHED);
        assert_eq!("TCP_SYN_SENT".parse::<State>().unwrap(), State::SYN_SENT);
        assert_eq!("close".parse::<State>().unwrap(), State::CLOSE);
        assert!("OPEN".parse::<State>().unwrap_err().contains("SYN-SENT"));
        assert_eq!(State::from_number(0), None);
        assert_eq!(State::from_number(13), None);
    }

    #[test]
    fn errno_names_go_both_ways() {
        assert_eq!(Errno::EADDRNOTAVAIL, Errno(99));
        assert_eq!(Errno(99).to_string(), "EADDRNOTAVAIL");
        assert_eq!("econnrefused".parse::<Errno>().unwrap(), Errno(111));
        assert!("ENOSUCH".parse::<Errno>().is_err());
        assert!("errno 41".parse::<Errno>().is_err());
    }
}
