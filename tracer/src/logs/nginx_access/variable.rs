//! Nginx's variables: what their values can be made of.

use crate::proxies::nginx::settings::Escape;

/// What can be of interest in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Status,
    Addresses,
    Statuses,
    Local,
    Iso,
    Epoch,
}

/// Bytes that a value can have.
#[derive(Clone, Debug)]
pub(super) struct Set(Box<[bool; 256]>);

impl Set {
    pub(super) fn of(has: impl Fn(u8) -> bool) -> Self {
        let mut set = Box::new([false; 256]);
        for byte in 0..=255 {
            set[usize::from(byte)] = has(byte);
        }
        Self(set)
    }

    pub(super) fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte)]
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0.iter()).for_each(|(mine, theirs)| *mine |= theirs);
    }
}

/// A variable.
#[derive(Clone, Debug)]
pub(super) struct Variable {
    pub(super) field: Option<Field>,
    pub(super) set: Set,
    /// Values of tries, separated by `, ` and ` : `.
    pub(super) list: bool,
    /// It can have a client's text.
    pub(super) open: bool,
}

/// A variable of Nginx by its name. What is not known here may hold anything that the escaping lets through.
pub(super) fn variable(name: &str, escape: Escape) -> Variable {
    let number = |byte: u8| byte.is_ascii_digit() || b".-".contains(&byte);
    let closed = |field, set| Variable { field, set, list: false, open: false };
    let list = |field, set| Variable { field, set, list: true, open: false };
    match name {
        "status" => closed(Some(Field::Status), Set::of(number)),
        "msec" => closed(Some(Field::Epoch), Set::of(number)),
        "time_iso8601" => {
            let iso = |byte: u8| byte.is_ascii_alphanumeric() || b"+-:".contains(&byte);
            closed(Some(Field::Iso), Set::of(iso))
        }
        "time_local" => {
            let local = |byte: u8| byte.is_ascii_alphanumeric() || b"+-:/ ".contains(&byte);
            closed(Some(Field::Local), Set::of(local))
        }
        "upstream_addr" => {
            let address =
                |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@[]-+%~, ".contains(&byte);
            list(Some(Field::Addresses), Set::of(address))
        }
        "upstream_status" => {
            list(Some(Field::Statuses), Set::of(|byte| number(byte) || b":, ".contains(&byte)))
        }
        "upstream_response_time"
        | "upstream_connect_time"
        | "upstream_header_time"
        | "upstream_queue_time"
        | "upstream_response_length"
        | "upstream_bytes_received"
        | "upstream_bytes_sent" => {
            list(None, Set::of(|byte| number(byte) || b":, ".contains(&byte)))
        }
        "body_bytes_sent"
        | "bytes_sent"
        | "request_time"
        | "request_length"
        | "connection"
        | "connection_requests"
        | "pid"
        | "server_port"
        | "remote_port"
        | "gzip_ratio" => closed(None, Set::of(number)),
        "remote_addr" | "server_addr" | "request_id" | "scheme" | "pipe" => {
            closed(None, Set::of(|byte| byte.is_ascii_alphanumeric() || b".:-".contains(&byte)))
        }
        _ => {
            let set = match escape {
                Escape::Default => Set::of(|byte| (b' '..=b'~').contains(&byte) && byte != b'"'),
                Escape::Json => Set::of(|byte| byte >= b' ' && byte != b'"'),
                Escape::None => Set::of(|_| true),
            };
            Variable { field: None, set, list: false, open: true }
        }
    }
}
