//! The live view on a terminal: `update(model, message)` gives effects, `view(model)` gives a frame. Both are
//! pure: no clock, no I/O, no terminal.
//!
//! - [`model`]: what is shown. [`update`]: what a key or a second changes. [`view`]: a frame of it.
//! - `keys`: the one table of keys. `columns`, `rows`: what tables show, and in which order.
//! - `archive`: the last ten minutes. `feed`: where one is in the events. `spots`: the rows of the overview.
//! - [`theme`], `text`: how things look on the terminal that there is. `dump`: the same for a file.

mod archive;
mod columns;
mod dump;
mod feed;
pub mod job_control;
pub mod keyboard;
mod keys;
pub mod message;
pub mod model;
pub mod record;
mod rows;
pub mod screen;
mod spots;
mod text;
pub mod theme;
pub mod update;
pub mod view;

#[cfg(test)]
mod tests;
