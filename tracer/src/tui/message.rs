//! What the view is told, and what it wants done.

use std::path::PathBuf;

use ratatui::crossterm::event::KeyEvent;

use super::playback::{Order, Replay};
use crate::live::shot::Shot;

/// What the view is told.
#[derive(Debug)]
pub enum Message {
    /// A key was pressed.
    Key(KeyEvent),
    /// The terminal has this many columns and rows.
    Resize(u16, u16),
    /// A second has passed.
    Shot(Box<Shot>),
    /// Something was done, or failed: a line for the person who asked for it.
    Notice(String),
    /// How the replay stands.
    Replay(Replay),
    /// The replay begins anew: all moments and events are gone.
    Rewound,
    /// How the recording stands; `None`: there is none.
    Recording(Option<Recording>),
}

/// A recording that is being made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Where to.
    pub path: PathBuf,
    /// Events written so far.
    pub events: u64,
    /// Bytes written so far.
    pub bytes: u64,
    /// Events that could not be written: the disk is slower than they come.
    pub lost: u64,
}

/// What the view wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// End.
    Quit,
    /// Give the terminal back, and stop until the shell continues us.
    Suspend,
    /// Start recording.
    StartRecording,
    /// Stop recording.
    StopRecording,
    /// Something for the replay.
    Replay(Order),
    /// Write a shown table into a file.
    WriteText {
        /// What it is, for the file's name: `upstreams`.
        name: &'static str,
        /// What it holds.
        text: String,
    },
}
