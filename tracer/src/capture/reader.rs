//! Reads a capture from beginning to end, past damage, and says what the damage took.

use std::io::{self, Read};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracer_ebpf::{ABI_VERSION, RAW_EVENT_SIZE};

use super::{
    CaptureError, Damage, Item,
    block::Decoder,
    content::{End, Header},
    frame::{FORMAT, HEAD, Head, Kind, MARKER},
};
use crate::event::{Loss, is_inert, visible};

/// Bytes read at a time.
const PIECE: usize = 256 << 10;
/// How far into a file its header is looked for: what does not begin with one is no capture.
const HEADER_WITHIN: u64 = 1 << 20;

/// A capture that is being read. Its memory is bounded by the largest frame.
pub struct Reader<R> {
    bytes: Window<R>,
    decoder: Decoder,
    header: Header,
    /// Records that were read, or are known to be missing.
    accounted: u64,
    /// Frames likewise.
    sequence: u32,
    /// Damage that no sound frame has followed yet.
    damage: Option<Damage>,
    /// What comes after the damage that was told.
    next: Option<Item>,
    end: Option<End>,
    over: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// It can't be read, is no capture, or one of a later version.
    pub fn open(from: R) -> Result<Self, CaptureError> {
        let mut reader = Self {
            bytes: Window { from, held: Vec::new(), at: 0, before: 0, over: false },
            decoder: Decoder::new()?,
            header: Header::default(),
            accounted: 0,
            sequence: 0,
            damage: None,
            next: None,
            end: None,
            over: false,
        };
        let is_one = reader.bytes.need(MARKER.len())? && reader.bytes.get().starts_with(&MARKER);
        match reader.frame()? {
            Some((head, content)) if head.kind == Some(Kind::Header) => {
                reader.header = header(&content)?;
                // What was damaged before it was the first copy.
                reader.damage = None;
                reader.sequence = head.sequence.saturating_add(1);
                Ok(reader)
            }
            None if !is_one => Err(CaptureError::NotOne),
            _ => Err(CaptureError::NoHeader),
        }
    }

    /// Where, when and how it was recorded.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes read so far.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.bytes.before + self.bytes.at as u64
    }

    /// Totals, once all was read; `None`: it was not ended, or its end is damaged.
    #[must_use]
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// What comes next; `None`: nothing.
    ///
    /// # Errors
    /// The file can't be read. Damage is no error, but an item.
    pub fn next_item(&mut self) -> io::Result<Option<Item>> {
        if let Some(item) = self.next.take() {
            return Ok(Some(item));
        }
        while !self.over {
            let Some((head, content)) = self.frame()? else {
                self.over = true;
                break;
            };
            if head.sequence < self.sequence {
                self.damaged(0, "another capture begins here, which is not read");
                self.over = true;
                break;
            }
            self.account(&head);
            let item = self.item(&head, content);
            if let Some(damage) = self.damage.take() {
                self.next = item;
                return Ok(Some(Item::Damage(damage)));
            }
            if let Some(item) = item {
                return Ok(Some(item));
            }
        }
        Ok(self.damage.take().map(Item::Damage))
    }

    /// A sound frame before which records or frames are missing says how many.
    fn account(&mut self, head: &Head) {
        let missing = head.events_before.saturating_sub(self.accounted);
        let frames = head.sequence.saturating_sub(self.sequence);
        if missing > 0 || frames > 0 {
            self.damaged(0, "a part is missing");
        }
        if let Some(damage) = &mut self.damage {
            damage.events = Some(missing);
            damage.frames = Some(frames);
        }
        self.accounted = self.accounted.max(head.events_before);
        self.sequence = head.sequence.saturating_add(1);
    }

    fn item(&mut self, head: &Head, content: Vec<u8>) -> Option<Item> {
        let item = match head.kind? {
            Kind::Header | Kind::Index => None,
            Kind::Records => {
                if content.len() != head.count as usize * RAW_EVENT_SIZE {
                    self.damaged(head.stored, "a block of another length than it says");
                    return None;
                }
                self.accounted = self.accounted.saturating_add(head.count.into());
                Some(Item::Records(Bytes::from(content)))
            }
            Kind::Lost => parse::<Loss>(&content).map(Item::Lost),
            Kind::Sockets => parse(&content).map(Item::Sockets),
            Kind::Sample => parse(&content).map(|listing| Item::Sample(Box::new(listing))),
            Kind::Cgroups => parse(&content).map(Item::Cgroups),
            Kind::Settings => parse(&content).map(Item::Settings),
            Kind::End => {
                self.end = parse(&content);
                self.end.clone().map(Item::End)
            }
        };
        if item.is_none() && !matches!(head.kind, Some(Kind::Header | Kind::Index)) {
            self.damaged(head.stored, "a frame whose content makes no sense");
        }
        item
    }

    fn damaged(&mut self, bytes: usize, why: &'static str) {
        let damage =
            self.damage.get_or_insert(Damage { bytes: 0, events: None, frames: None, why });
        damage.bytes += bytes as u64;
    }

    /// The next sound frame and its content; notes the damage before it.
    fn frame(&mut self) -> Result<Option<(Head, Vec<u8>)>, io::Error> {
        loop {
            if !self.bytes.need(HEAD)? {
                let rest = self.bytes.get().len();
                if rest > 0 {
                    self.damaged(rest, "it breaks off");
                    self.bytes.skip(rest);
                }
                return Ok(None);
            }
            let Some(head) = Head::read(self.bytes.get()) else {
                self.search();
                continue;
            };
            if head.format > FORMAT {
                return Err(io::Error::other(Newer(head.format)));
            }
            if !self.bytes.need(HEAD + head.stored)? {
                let rest = self.bytes.get().len();
                self.damaged(rest, "it breaks off");
                if let Some(damage) = &mut self.damage {
                    // What was missing before it counts too.
                    let before = head.events_before.saturating_sub(self.accounted);
                    damage.events = Some(before.saturating_add(head.count.into()));
                }
                self.bytes.skip(rest);
                return Ok(None);
            }
            let stored = &self.bytes.get()[HEAD..HEAD + head.stored];
            let sound = crc32c::crc32c(stored) == head.content_crc;
            let content = match head.encoding {
                Some(encoding) if sound => self.decoder.decode(stored, encoding, head.raw).ok(),
                // A later version's: nothing that is read here.
                None if sound => Some(Vec::new()),
                _ => None,
            };
            let Some(content) = content else {
                // Where it ends is as doubtful as what it holds.
                self.search();
                continue;
            };
            self.bytes.skip(HEAD + head.stored);
            let known = head.encoding.is_some();
            return Ok(Some((Head { kind: head.kind.filter(|_| known), ..head }, content)));
        }
    }

    /// Goes on to where a frame may begin.
    fn search(&mut self) {
        let held = self.bytes.get();
        let found = held.windows(MARKER.len()).skip(1).position(|it| it == MARKER);
        // A marker may begin in what is held and end in what is not.
        let skipped = found.map_or(held.len() - (MARKER.len() - 1), |at| at + 1);
        self.damaged(skipped, "damaged");
        self.bytes.skip(skipped);
        let none_yet = self.header == Header::default();
        if none_yet && self.bytes.before > HEADER_WITHIN {
            self.bytes.over = true;
            let rest = self.bytes.get().len();
            self.bytes.skip(rest);
        }
    }
}

/// What a capture holds comes from elsewhere: nothing in it may be taken for a command by a terminal.
fn parse<T: DeserializeOwned>(content: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(content).ok()?;
    if is_plain(text) {
        return serde_json::from_str(text).ok();
    }
    let mut value = serde_json::from_str(text).ok()?;
    clean(&mut value);
    serde_json::from_value(value).ok()
}

/// Whether all strings of a JSON text are inert, as those are that socklife writes.
fn is_plain(text: &str) -> bool {
    let mut escaped = false;
    text.chars().all(|character| match (std::mem::take(&mut escaped), character) {
        (true, '\\' | '"') => true,
        (true, _) => false,
        (false, '\\') => {
            escaped = true;
            true
        }
        (false, other) => is_inert(other),
    })
}

fn clean(value: &mut Value) {
    match value {
        Value::String(text) => {
            if !text.chars().all(|it| it == '\\' || is_inert(it)) {
                let shown = |it: char| match it {
                    '\\' => it.to_string(),
                    it => visible(it.encode_utf8(&mut [0; 4]).as_bytes()),
                };
                *text = text.chars().map(shown).collect();
            }
        }
        Value::Array(list) => list.iter_mut().for_each(clean),
        Value::Object(map) => {
            let cleaned = std::mem::take(map).into_iter().map(|(key, mut value)| {
                clean(&mut value);
                let mut key = Value::String(key);
                clean(&mut key);
                (key.as_str().unwrap_or_default().to_owned(), value)
            });
            *map = cleaned.collect();
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn header(content: &[u8]) -> Result<Header, CaptureError> {
    let header: Header = parse(content).ok_or(CaptureError::NoHeader)?;
    if header.abi != ABI_VERSION || header.record_size != RAW_EVENT_SIZE {
        return Err(CaptureError::Abi { abi: header.abi, by: header.socklife });
    }
    Ok(header)
}

/// A frame of a later format.
#[derive(Debug, thiserror::Error)]
#[error("it has format {0}")]
pub(super) struct Newer(pub(super) u16);

/// Bytes that were read and not used yet.
struct Window<R> {
    from: R,
    held: Vec<u8>,
    at: usize,
    /// Bytes before what is held.
    before: u64,
    over: bool,
}

impl<R: Read> Window<R> {
    fn get(&self) -> &[u8] {
        &self.held[self.at..]
    }

    fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// Reads until so many are held; false: there are not so many any more.
    fn need(&mut self, bytes: usize) -> io::Result<bool> {
        while self.get().len() < bytes {
            if self.over {
                return Ok(false);
            }
            if self.at > 0 {
                self.before += self.at as u64;
                self.held.drain(..self.at);
                self.at = 0;
            }
            let (length, more) = (self.held.len(), PIECE.max(bytes - self.held.len()));
            self.held.resize(length + more, 0);
            let read = loop {
                match self.from.read(&mut self.held[length..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read,
                }
            };
            self.held.truncate(length + read.as_ref().copied().unwrap_or(0));
            self.over = read? == 0;
        }
        Ok(true)
    }
}
