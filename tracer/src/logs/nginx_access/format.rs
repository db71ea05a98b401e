//! The text of a `log_format`, and where its variables' values are in a line.
//!
//! Between two values is a literal. Where a value can't have a byte of the literal after it, that byte's first
//! occurrence tells where the value ends, whatever a client sent; the same goes backwards from the line's end. Else
//! the first and the last place where the literal could be have to be the same place.

use std::sync::LazyLock;

use memchr::memmem;

use super::variable::{Field, Set, Variable, variable};

use crate::proxies::nginx::settings::Escape;

/// How lines of an access log are read.
#[derive(Clone, Debug)]
pub enum Format {
    /// By a `log_format`.
    Compiled(Layout),
    /// `combined` and whatever follows its status, or JSON.
    Guess(Layout),
}

/// Why a `log_format` is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Requests can't be counted by their outcome.
    #[error("the log_format has no $status: add it, or give a log that has it")]
    NoStatus,
    /// Not as Nginx would have it.
    #[error("the log_format has a $ without a variable's name at byte {0}")]
    NoName(usize),
    /// The values can't be told apart.
    #[error(
        "the log_format has ${0} and its neighbour without anything between: put a space there"
    )]
    Adjacent(String),
}

/// Values of interest, as they are in the line.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Values<'a> {
    pub(super) status: Option<&'a [u8]>,
    pub(super) addresses: Option<&'a [u8]>,
    pub(super) statuses: Option<&'a [u8]>,
    pub(super) local: Option<&'a [u8]>,
    pub(super) iso: Option<&'a [u8]>,
    pub(super) epoch: Option<&'a [u8]>,
}

/// How the place of a literal is found.
#[derive(Clone, Debug)]
enum Rule {
    /// By the nearest byte that no value has since the last place that is sure; it is so far inside the literal.
    Byte(Set, usize),
    /// By the end of a list.
    List,
    /// The nearest place where it could be.
    Nearest,
}

/// A literal between two values.
#[derive(Clone, Debug)]
struct Between {
    literal: Vec<u8>,
    forward: Rule,
    backward: Rule,
}

/// Variables and what is between them.
#[derive(Clone, Debug)]
pub struct Layout {
    before: Vec<u8>,
    variables: Vec<Variable>,
    between: Vec<Between>,
    after: Vec<u8>,
    escape: Escape,
}

impl Format {
    /// Of the text of a `log_format`, its strings joined.
    ///
    /// # Errors
    /// It has no `$status`, or could not tell values apart.
    pub fn compile(log_format: &str, escape: Escape) -> Result<Self, Error> {
        Layout::new(log_format.as_bytes(), escape).map(Self::Compiled)
    }

    /// For logs whose format is not known.
    #[must_use]
    pub fn guess() -> Self {
        static COMBINED: LazyLock<Layout> = LazyLock::new(|| {
            let combined = br#"$any - $remote_user [$time_local] "$request" $status $rest"#;
            let mut layout = Layout::new(combined, Escape::Default).expect("a format");
            let rest = layout.variables.last_mut().expect("variables");
            // It has quotes of its own.
            rest.set = Set::of(|_| true);
            layout.settle();
            layout
        });
        Self::Guess(COMBINED.clone())
    }
}

impl Layout {
    fn new(text: &[u8], escape: Escape) -> Result<Self, Error> {
        let (mut literals, mut variables) = (vec![Vec::new()], Vec::<(Variable, String)>::new());
        let mut rest = text;
        while let Some((byte, after)) = rest.split_first() {
            rest = after;
            if *byte != b'$' {
                literals.last_mut().into_iter().for_each(|literal| literal.push(*byte));
                continue;
            }
            let braced = rest.first() == Some(&b'{');
            let inner = rest.get(usize::from(braced)..).unwrap_or_default();
            let length = inner.iter().take_while(|&&byte| is_name(byte)).count();
            let (name, after) = inner.split_at(length);
            let after = if braced { after.strip_prefix(b"}") } else { Some(after) };
            let Some(after) = after.filter(|_| length > 0) else {
                return Err(Error::NoName(text.len() - rest.len() - 1));
            };
            rest = after;
            let name = String::from_utf8_lossy(name).into_owned();
            let variable = variable(&name, escape);
            let adjacent = !variables.is_empty() && literals.last().is_some_and(Vec::is_empty);
            match variables.last_mut().filter(|_| adjacent) {
                None => {
                    variables.push((variable, name));
                    literals.push(Vec::new());
                }
                Some((before, _)) if before.field.is_none() && variable.field.is_none() => {
                    before.set.add(&variable.set);
                    (before.open, before.list) = (before.open || variable.open, false);
                }
                Some(_) if variable.field.is_some() => return Err(Error::Adjacent(name)),
                Some((_, before)) => return Err(Error::Adjacent(before.clone())),
            }
        }
        let variables: Vec<Variable> =
            variables.into_iter().map(|(variable, _)| variable).collect();
        if !variables.iter().any(|variable| variable.field == Some(Field::Status)) {
            return Err(Error::NoStatus);
        }
        let after = literals.pop().unwrap_or_default();
        let between = literals.split_off(1).into_iter().map(|literal| Between {
            literal,
            forward: Rule::Nearest,
            backward: Rule::Nearest,
        });
        let between = between.collect();
        let before = literals.pop().unwrap_or_default();
        let mut layout = Self { before, variables, between, after, escape };
        layout.settle();
        Ok(layout)
    }

    /// Decides how each literal is found.
    fn settle(&mut self) {
        let (mut since, mut sure) = (Set::of(|_| false), true);
        for (between, pair) in self.between.iter_mut().zip(self.variables.windows(2)) {
            let [variable, next] = pair else { return };
            since.add(&variable.set);
            let literal = &between.literal;
            let list_ends = match literal[..] {
                [b' '] => !next.open,
                [b' ', second, ..] => second != b':',
                _ => false,
            };
            let byte = literal.iter().position(|byte| !since.has(*byte));
            between.forward = match byte {
                Some(inside) => Rule::Byte(since.clone(), inside),
                None if sure && variable.list && list_ends => Rule::List,
                None => Rule::Nearest,
            };
            sure = !matches!(between.forward, Rule::Nearest);
            since.add(&Set::of(|byte| literal.contains(&byte)));
            if sure {
                since = Set::of(|_| false);
            }
        }
        let (mut since, mut sure, mut escaped) = (Set::of(|_| false), true, false);
        for (between, pair) in self.between.iter_mut().zip(self.variables.windows(2)).rev() {
            let [before, variable] = pair else { return };
            since.add(&variable.set);
            // Backwards, whether a quote was escaped is not seen.
            escaped |= self.escape == Escape::Json && variable.open;
            let literal = &between.literal;
            let list_begins = match literal[..] {
                [b' '] => !before.open,
                [.., second, b' '] => !matches!(second, b',' | b':'),
                _ => false,
            };
            let byte = literal.iter().rposition(|byte| !since.has(*byte)).filter(|_| !escaped);
            between.backward = match byte {
                Some(inside) => Rule::Byte(since.clone(), inside),
                None if sure && variable.list && list_begins => Rule::List,
                None => Rule::Nearest,
            };
            sure = [&between.forward, &between.backward]
                .iter()
                .any(|rule| !matches!(rule, Rule::Nearest));
            since.add(&Set::of(|byte| literal.contains(&byte)));
            if sure {
                (since, escaped) = (Set::of(|_| false), false);
            }
        }
    }

    /// The values of interest in a line; `None`: it is not of this format, or where one is can't be told.
    pub(super) fn values<'a>(&self, line: &'a [u8]) -> Option<Values<'a>> {
        let line = line.strip_prefix(&self.before[..])?.strip_suffix(&self.after[..])?;
        let places = self.places(line)?;
        let mut values = Values::default();
        for (index, variable) in self.variables.iter().enumerate() {
            let Some(field) = variable.field else { continue };
            let from = match index.checked_sub(1) {
                None => 0,
                Some(before) => (*places.get(before)?)? + self.between.get(before)?.literal.len(),
            };
            let to = places.get(index).map_or(Some(line.len()), |place| *place)?;
            let value = match field {
                Field::Status => &mut values.status,
                Field::Addresses => &mut values.addresses,
                Field::Statuses => &mut values.statuses,
                Field::Local => &mut values.local,
                Field::Iso => &mut values.iso,
                Field::Epoch => &mut values.epoch,
            };
            value.get_or_insert(line.get(from..to)?);
        }
        Some(values)
    }

    /// Where each literal is, as far as that can be told.
    fn places(&self, line: &[u8]) -> Option<Vec<Option<usize>>> {
        // Of each the first place that it could have, and whether it has that.
        let mut first = Vec::with_capacity(self.between.len());
        let (mut from, mut sure) = (0, 0);
        for between in &self.between {
            let literal = &between.literal;
            let at = match &between.forward {
                Rule::Byte(set, inside) => self.beyond(line, sure, set)?.checked_sub(*inside)?,
                Rule::List => list_end(line, from)?,
                Rule::Nearest => from + memmem::find(line.get(from..)?, literal)?,
            };
            if at < from || !line.get(at..)?.starts_with(literal) {
                return None;
            }
            from = at + literal.len();
            let known = !matches!(between.forward, Rule::Nearest);
            if known {
                sure = from;
            }
            first.push((at, known));
        }
        let mut to = line.len();
        let mut sure = to;
        let mut places = vec![None; self.between.len()];
        for (index, between) in self.between.iter().enumerate().rev() {
            let literal = &between.literal;
            let (least, known) = *first.get(index)?;
            let at = match &between.backward {
                _ if known => least,
                Rule::Byte(set, inside) => {
                    let at = line.get(..sure)?.iter().rposition(|byte| !set.has(*byte))?;
                    at.checked_sub(*inside)?
                }
                Rule::List => list_begin(line.get(..to)?)?.checked_sub(literal.len())?,
                Rule::Nearest => memmem::rfind(line.get(..to)?, literal)?,
            };
            if at + literal.len() > to || !line.get(at..)?.starts_with(literal) {
                return None;
            }
            to = at;
            let known = known || !matches!(between.backward, Rule::Nearest);
            if known {
                sure = at;
            }
            *places.get_mut(index)? = Some(at).filter(|at| known || *at == least);
        }
        Some(places)
    }

    /// The first byte that is not in a set.
    fn beyond(&self, line: &[u8], from: usize, set: &Set) -> Option<usize> {
        let skips = self.escape == Escape::Json && set.has(b'\\');
        let mut at = from;
        loop {
            let byte = *line.get(at)?;
            if skips && byte == b'\\' {
                at += 2;
            } else if set.has(byte) {
                at += 1;
            } else {
                return Some(at);
            }
        }
    }
}

/// Where a list ends that begins there.
fn list_end(line: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr::memchr(b' ', line.get(at..)?)?;
        let rest = line.get(at..)?;
        if at > from && line.get(at - 1) == Some(&b',') {
            at += 1;
        } else if rest.starts_with(b" : ") {
            at += 3;
        } else {
            return Some(at);
        }
    }
}

/// Where a list begins that ends with the text.
fn list_begin(text: &[u8]) -> Option<usize> {
    let mut rest = text;
    loop {
        let space = memchr::memrchr(b' ', rest)?;
        rest = rest.get(..space)?;
        if rest.ends_with(b" :") {
            rest = rest.get(..space - 2)?;
        } else if !rest.ends_with(b",") {
            return Some(space + 1);
        }
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}
