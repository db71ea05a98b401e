//! The live view on a terminal: `update(model, message)` gives effects, `view(model)` gives a frame.

pub mod message;
pub mod record;
pub mod screen;
