//! What the live view knows: events and listings of the host, folded into a [`shot::Shot`] a second.
//! No terminal in here, no kernel and no clock.

pub mod shot;
pub mod tail;
