//! The live view on a terminal: `update(model, message)` gives effects, `view(model)` gives a frame. Both are
//! pure: no clock, no I/O, no terminal.
//!
//! - [`stage`]: a model on the terminal. [`model`]: what is shown. [`update`]: what a key or a second changes. [`view`]: a frame of it.
//! - `keys`: the one table of keys. `columns`, `rows`: what tables show, and in which order.
//! - `archive`: the last ten minutes. `feed`: where one is in the events. `spots`: the rows of the overview.
//! - [`playback`]: how the replay of a capture stands. `replay`: keys that control it.
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
pub mod playback;
pub mod record;
mod replay;
mod rows;
pub mod screen;
mod spots;
pub mod stage;
pub(crate) mod text;
pub mod theme;
pub mod update;
pub mod view;

#[cfg(test)]
pub(crate) mod tests;
