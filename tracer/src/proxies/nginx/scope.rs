//! What blocks hand down to the blocks in them. Nginx does so when a block ends (`merge_loc_conf`), so that a
//! directive also holds for the blocks before it.

use std::rc::Rc;

use super::settings::{Keeping, Place};

/// Directives that pass on, without `_pass`: each has a `_bind` of its own.
const PROTOCOLS: [&str; 6] = ["proxy", "fastcgi", "grpc", "uwsgi", "scgi", "memcached"];

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Protocol(usize);

impl Protocol {
    /// Of a directive's name, whose end is given: `_pass`.
    pub(super) fn of(directive: &str, end: &str) -> Option<Self> {
        let name = directive.strip_suffix(end)?;
        PROTOCOLS.iter().position(|protocol| *protocol == name).map(Self)
    }

    /// HTTP.
    pub(super) fn is_proxy(self) -> bool {
        self.0 == 0
    }

    fn name(self) -> &'static str {
        PROTOCOLS.get(self.0).copied().unwrap_or_default()
    }
}

/// What `proxy_http_version` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// A connection carries one request, unless it is asked to.
    Old,
    /// 1.1: what `Connection` says decides.
    Persistent,
    /// 2, since 1.29.4: without `Connection`.
    Multiplexed,
}

/// What is set in a block, or holds in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    /// `proxy_bind` and its like, as they are written.
    binds: [Option<Rc<str>>; PROTOCOLS.len()],
    version: Option<Version>,
    /// Whether `proxy_set_header` of this block set `Connection` to something but `close`. A block that sets any
    /// header takes none from outside.
    persistent: Option<Header>,
    /// Where the last of these headers is set.
    headers: Option<Rc<Place>>,
    keep_conn: Option<bool>,
}

/// The header `Connection` toward the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    /// Not set: Nginx sends `close`.
    Unset,
    Close,
    /// To something with a variable in it.
    Variable,
    Other,
}

/// The blocks, in the order of their beginning.
#[derive(Debug, Default)]
pub(super) struct Scopes(Vec<(u32, Option<Box<Held>>)>);

/// One of them.
pub(super) type Scope = u32;

impl Scopes {
    /// One more, inside of another; its own parent at the top.
    pub(super) fn push(&mut self, parent: Scope) -> Scope {
        let number = Scope::try_from(self.0.len()).unwrap_or(Scope::MAX);
        self.0.push((parent, None));
        number
    }

    /// Takes a directive, if it is one that is handed down.
    pub(super) fn set(&mut self, scope: Scope, name: &str, arguments: &[&str], place: &Place) {
        let Some((_, held)) = self.0.get_mut(scope as usize) else { return };
        let &[first, ..] = arguments else { return };
        match name {
            "proxy_http_version" => {
                held.get_or_insert_default().version = Some(match first {
                    "1.1" => Version::Persistent,
                    "2" => Version::Multiplexed,
                    _ => Version::Old,
                });
            }
            "proxy_set_header" => {
                let held = held.get_or_insert_default();
                held.headers = Some(Rc::new(place.clone()));
                let set = held.persistent.get_or_insert(Header::Unset);
                if first.eq_ignore_ascii_case("connection") && *set != Header::Close {
                    let value = arguments.get(1).copied().unwrap_or_default();
                    *set = if says_close(value) {
                        Header::Close
                    } else if value.contains('$') {
                        Header::Variable
                    } else {
                        Header::Other
                    };
                }
            }
            "fastcgi_keep_conn" => {
                held.get_or_insert_default().keep_conn = Some(first.eq_ignore_ascii_case("on"));
            }
            _ => {
                let Some(Protocol(protocol)) = Protocol::of(name, "_bind") else { return };
                if let Some(bind) = held.get_or_insert_default().binds.get_mut(protocol) {
                    *bind = Some(first.into());
                }
            }
        }
    }

    /// What holds in each.
    pub(super) fn resolve(self) -> Vec<Rc<Held>> {
        let mut resolved: Vec<Rc<Held>> = Vec::with_capacity(self.0.len());
        for (parent, own) in self.0 {
            let outside = resolved.get(parent as usize).cloned().unwrap_or_default();
            resolved.push(match own {
                None => outside,
                Some(own) => Rc::new(own.within(&outside)),
            });
        }
        resolved
    }
}

/// Whether `close` is among a header's values.
fn says_close(value: &str) -> bool {
    value.split(',').any(|token| token.trim().eq_ignore_ascii_case("close"))
}

impl Held {
    fn within(mut self, outside: &Self) -> Self {
        for (own, outside) in self.binds.iter_mut().zip(&outside.binds) {
            if own.is_none() {
                own.clone_from(outside);
            }
        }
        Self {
            binds: self.binds,
            version: self.version.or(outside.version),
            persistent: self.persistent.or(outside.persistent),
            headers: self.headers.or_else(|| outside.headers.clone()),
            keep_conn: self.keep_conn.or(outside.keep_conn),
        }
    }

    /// The address that connections are bound to.
    pub(super) fn bind(&self, protocol: Protocol) -> Option<&str> {
        self.binds.get(protocol.0)?.as_deref().filter(|&bind| bind != "off")
    }

    /// Whether connections can be kept, in `http`.
    pub(super) fn keeping(&self, protocol: Protocol) -> Keeping {
        match protocol.name() {
            "proxy" => match (self.version, self.persistent) {
                (Some(Version::Multiplexed), _)
                | (Some(Version::Persistent), Some(Header::Other)) => Keeping::Always,
                (Some(Version::Old), _) | (_, Some(Header::Close)) => Keeping::Closes,
                (_, Some(Header::Variable)) => Keeping::Varies,
                _ => Keeping::ByDefault,
            },
            "fastcgi" if self.keep_conn == Some(true) => Keeping::Always,
            "grpc" | "memcached" => Keeping::Always,
            _ => Keeping::Closes,
        }
    }

    /// Whether `proxy_http_version` says that connections can be kept.
    pub(super) fn is_persistent(&self) -> bool {
        matches!(self.version, Some(Version::Persistent | Version::Multiplexed))
    }

    /// Where the headers are set that hold.
    pub(super) fn headers(&self) -> Option<&Place> {
        self.headers.as_deref()
    }
}
