//! Keys and sizes of the terminal, read on a thread of their own.

use anyhow::{Context, Result};
use ratatui::crossterm::event::{Event, KeyEventKind, read};
use tokio::sync::mpsc;

use super::message::Message;

/// Messages that wait for the loop.
const WAITING: usize = 64;

/// The thread, as seen from the loop.
pub struct Keyboard {
    messages: mpsc::Receiver<Message>,
}

impl Keyboard {
    /// Starts reading.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start() -> Result<Self> {
        let (tell, messages) = mpsc::channel(WAITING);
        let listen = move || {
            // It ends with the terminal, or with the loop.
            while let Ok(event) = read() {
                let message = match event {
                    Event::Key(key) if key.kind != KeyEventKind::Release => Message::Key(key),
                    Event::Resize(width, height) => Message::Resize(width, height),
                    _ => continue,
                };
                if tell.blocking_send(message).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("keyboard".to_owned()).spawn(listen);
        thread.context("can't start a thread to read keys")?;
        Ok(Self { messages })
    }

    /// The next message; `None`: the terminal is gone. Safe to cancel.
    pub async fn next(&mut self) -> Option<Message> {
        self.messages.recv().await
    }
}
