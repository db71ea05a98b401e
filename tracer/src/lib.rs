//! socklife: which connection ceiling did this host hit, who hit it, toward which upstream?
//!
//! Data goes one way, and every room has one job:
//!
//! ```text
//! probe → record → ring ─→ source (Bytes) → decode (Event) → table (pure fold) → Change → sink
//! kernel side (tracer-ebpf)                userspace (this crate)
//! ```
//!
//! - [`kernel`]: all that touches the kernel: loader, ladder of hooks, rings, namespaces,
//!   and [`kernel::snapshot`], the sockets that existed before.
//! - [`filter`]: what the user asked for, resolved to what the kernel side compares.
//! - [`source`]: batches of records in the order of time.
//! - [`decode`]: bytes to [`event`]s. [`reason`]: why a connection failed.
//! - [`table`]: the fold; no clock, no I/O. Its parts: [`failures`], and [`ends`], how connections end.
//! - [`existing`]: sockets that existed before, and who owns them.
//! - [`ceilings`]: usage, limit, failures, who, forecast and remedy of each ceiling, concluded from a
//!   [`kernel::survey`] of the host. [`check`]: takes surveys and judges. [`sampler`]: measures ports while
//!   connects fail. [`ports`]: sets of ports.
//! - [`top`]: the loop of the live view, [`replay`]: the same over a capture. [`live`]: the fold of events and of what [`lookout`] finds on the host into
//!   a moment a second. [`tui`]: from moments and keys to frames, and the terminal.
//! - [`record`]: the loop of recording. [`recording`]: from batches to files. [`capture`]: the format, its writer and
//!   reader, and the walk down the road again. [`report`]: a capture, condensed, and two of them compared. [`export`]: to other formats.
//! - [`sink`]: text and JSON. [`human`]: numbers for people. [`intake`]: what every run does with events. [`run`]: the
//!   loop of commands that print. [`usage`]: our own cost. [`cli`]: the command line.

#![deny(unsafe_code)]

pub mod answers;
pub mod capture;
pub mod ceilings;
pub mod check;
pub mod cli;
pub mod decode;
pub mod ends;
pub mod event;
pub mod existing;
pub mod export;
pub mod failures;
pub mod filter;
pub mod human;
pub mod intake;
pub mod kernel;
pub mod live;
pub mod logs;
pub mod lookout;
pub mod ports;
pub mod proxies;
pub mod reason;
pub mod record;
pub mod recording;
pub mod replay;
pub mod report;
pub mod run;
pub mod sampler;
pub mod sink;
pub mod source;
pub mod table;
pub mod top;
pub mod tui;
pub mod usage;
