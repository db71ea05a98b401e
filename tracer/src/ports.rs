//! Sets of port numbers.

use std::{fmt, ops::RangeInclusive};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Words of 64 ports each.
const WORDS: usize = 65_536 / 64;

/// A set of ports: a bit each.
#[derive(Clone, PartialEq, Eq)]
pub struct PortSet(Box<[u64; WORDS]>);

impl Default for PortSet {
    fn default() -> Self {
        Self(Box::new([0; WORDS]))
    }
}

impl PortSet {
    /// Adds a port.
    pub fn insert(&mut self, port: u16) {
        self.0[usize::from(port / 64)] |= 1 << (port % 64);
    }

    /// Takes a port out.
    pub fn remove(&mut self, port: u16) {
        self.0[usize::from(port / 64)] &= !(1 << (port % 64));
    }

    /// Whether a port is in it.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.0[usize::from(port / 64)] & (1 << (port % 64)) != 0
    }

    /// How many there are: 0 to 65,536.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// How many of a range are in it.
    #[must_use]
    pub fn len_within(&self, range: &RangeInclusive<u16>) -> u32 {
        let within = range.clone().filter(|&port| self.contains(port)).count();
        u32::try_from(within).unwrap_or(u32::MAX)
    }

    /// Takes out what is in the other one.
    pub fn subtract(&mut self, other: &Self) {
        for (word, gone) in self.0.iter_mut().zip(other.0.iter()) {
            *word &= !gone;
        }
    }

    /// Keeps what is in the other one, too.
    pub fn retain(&mut self, other: &Self) {
        for (word, kept) in self.0.iter_mut().zip(other.0.iter()) {
            *word &= kept;
        }
    }

    /// Adds what is in the other one.
    pub fn add(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(other.0.iter()) {
            *word |= more;
        }
    }

    /// The ports in order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (0..=u16::MAX).filter(|&port| self.contains(port))
    }
}

impl From<RangeInclusive<u16>> for PortSet {
    fn from(range: RangeInclusive<u16>) -> Self {
        range.collect()
    }
}

impl FromIterator<u16> for PortSet {
    fn from_iter<I: IntoIterator<Item = u16>>(ports: I) -> Self {
        let mut set = Self::default();
        set.extend(ports);
        set
    }
}

impl Extend<u16> for PortSet {
    fn extend<I: IntoIterator<Item = u16>>(&mut self, ports: I) {
        for port in ports {
            self.insert(port);
        }
    }
}

/// As `ip_local_reserved_ports` has it: `8080,9148-9150`.
impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ports = self.iter().peekable();
        let mut comma = "";
        while let Some(first) = ports.next() {
            let mut last = first;
            while let Some(next) = ports.next_if(|&next| last.checked_add(1) == Some(next)) {
                last = next;
            }
            write!(f, "{comma}{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
            comma = ",";
        }
        Ok(())
    }
}

impl fmt::Debug for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

/// As a list of its ports: few sets hold many.
impl Serialize for PortSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ports: Vec<u16> = (0..=u16::MAX).filter(|&port| self.contains(port)).collect();
        ports.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PortSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<u16>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shows_as_the_kernel_does() {
        let set: PortSet = [1, 2, 3, 5, 65_534, 65_535].into_iter().collect();
        assert_eq!(set.to_string(), "1-3,5,65534-65535");
        assert_eq!(PortSet::default().to_string(), "");
    }

    proptest! {
        #[test]
        fn is_a_set(ports: Vec<u16>, gone: Vec<u16>, from: u16, to: u16) {
            let mut set: PortSet = ports.iter().copied().collect();
            let mut model: BTreeSet<u16> = ports.into_iter().collect();
            set.subtract(&gone.iter().copied().collect());
            model.retain(|port| !gone.contains(port));
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(set.len() as usize, model.len());
            prop_assert_eq!(set.len_within(&(from..=to)) as usize, (from..=to).filter(|p| model.contains(p)).count());
        }
    }
}
