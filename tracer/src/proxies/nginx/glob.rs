//! Names that a pattern stands for, by the rules of glob(3) with no flags, as `include` has them
//! (`ngx_open_glob`). On bytes, without recursion, and in time bounded by lengths of pattern and name.

/// Sets without an end that are looked through in a component; every one after these stands for itself.
const MOST_OPEN_SETS: u32 = 16;

/// A piece of a pattern.
#[derive(Clone, Debug)]
enum Piece {
    Byte(u8),
    /// `?`
    Any,
    /// `*`
    Star,
    /// `[...]`: which bytes.
    Set(Box<[bool; 256]>),
}

impl Piece {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Byte(wanted) => *wanted == byte,
            Self::Any => true,
            Self::Star => false,
            Self::Set(set) => set.get(usize::from(byte)).is_some_and(|&within| within),
        }
    }
}

/// A component of a path, with wildcards or without.
#[derive(Clone, Debug)]
pub struct Pattern(Vec<Piece>);

/// Whether `include` takes a path as a pattern (`ngx_conf_include`).
#[must_use]
pub fn is_pattern(path: &[u8]) -> bool {
    path.iter().any(|byte| b"*?[".contains(byte))
}

impl Pattern {
    /// Of a component. A `[` that is never closed stands for itself.
    #[must_use]
    pub fn new(mut text: &[u8]) -> Self {
        let (mut pieces, mut open_sets) = (Vec::new(), 0);
        while let [byte, after @ ..] = text {
            let (piece, after) = match (byte, after) {
                (b'\\', [byte, after @ ..]) => (Piece::Byte(*byte), after),
                (b'?', _) => (Piece::Any, after),
                (b'*', _) => (Piece::Star, after),
                (b'[', _) if open_sets < MOST_OPEN_SETS => {
                    let found = set(after);
                    open_sets += u32::from(found.is_none());
                    found
                        .map_or((Piece::Byte(b'['), after), |(set, after)| (Piece::Set(set), after))
                }
                _ => (Piece::Byte(*byte), after),
            };
            if !matches!((pieces.last(), &piece), (Some(Piece::Star), Piece::Star)) {
                pieces.push(piece);
            }
            text = after;
        }
        Self(pieces)
    }

    /// The one name that it stands for, where it has no wildcards.
    #[must_use]
    pub fn literal(&self) -> Option<Vec<u8>> {
        self.0
            .iter()
            .map(|piece| if let Piece::Byte(byte) = piece { Some(*byte) } else { None })
            .collect()
    }

    /// Whether it stands for a name. A period at its beginning is matched by a period only.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        let least = self.0.iter().filter(|piece| !matches!(piece, Piece::Star)).count();
        let hidden = name.first() == Some(&b'.');
        if least > name.len() || (hidden && !matches!(self.0.first(), Some(Piece::Byte(b'.')))) {
            return false;
        }
        let (mut piece, mut at) = (0, 0);
        // After the last star: the piece that follows, and where the name is taken up again.
        let mut again = None;
        while let Some(&byte) = name.get(at) {
            match self.0.get(piece) {
                Some(Piece::Star) => {
                    piece += 1;
                    again = Some((piece, at));
                }
                Some(here) if here.takes(byte) => (piece, at) = (piece + 1, at + 1),
                _ => {
                    let Some((after_star, from)) = again else { return false };
                    (piece, at) = (after_star, from + 1);
                    again = Some((after_star, at));
                }
            }
        }
        self.0.iter().skip(piece).all(|piece| matches!(piece, Piece::Star))
    }
}

/// A set after its `[`, and what follows it.
fn set(text: &[u8]) -> Option<(Box<[bool; 256]>, &[u8])> {
    let (negated, mut rest) = match text {
        [b'!' | b'^', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let mut within = Box::new([false; 256]);
    let mut first = true;
    loop {
        rest = match rest {
            [] => return None,
            [b']', after @ ..] if !first => {
                within.iter_mut().for_each(|within| *within ^= negated);
                return Some((within, after));
            }
            [b'[', b':', after @ ..] => match class(after) {
                Some((class, after)) => {
                    for (byte, within) in (0..=u8::MAX).zip(within.iter_mut()) {
                        *within |= class(&byte);
                    }
                    after
                }
                None => members(&mut within, rest)?,
            },
            _ => members(&mut within, rest)?,
        };
        first = false;
    }
}

/// Adds a byte or a range to a set; what follows it.
fn members<'a>(within: &mut [bool; 256], text: &'a [u8]) -> Option<&'a [u8]> {
    let (low, rest) = member(text)?;
    let (high, rest) = match rest {
        [b'-', after @ ..] if !matches!(after, [b']', ..] | []) => member(after)?,
        _ => (low, rest),
    };
    if let Some(range) = within.get_mut(usize::from(low)..=usize::from(high)) {
        range.fill(true);
    }
    Some(rest)
}

fn member(text: &[u8]) -> Option<(u8, &[u8])> {
    match text {
        [b'\\', byte, rest @ ..] | [byte, rest @ ..] => Some((*byte, rest)),
        [] => None,
    }
}

type Class = fn(&u8) -> bool;

/// A class after its `[:`, and what follows it.
fn class(text: &[u8]) -> Option<(Class, &[u8])> {
    let classes: [(&[u8], Class); 9] = [
        (b"alnum:]", u8::is_ascii_alphanumeric),
        (b"alpha:]", u8::is_ascii_alphabetic),
        (b"digit:]", u8::is_ascii_digit),
        (b"lower:]", u8::is_ascii_lowercase),
        (b"upper:]", u8::is_ascii_uppercase),
        (b"punct:]", u8::is_ascii_punctuation),
        (b"xdigit:]", u8::is_ascii_hexdigit),
        (b"graph:]", u8::is_ascii_graphic),
        (b"space:]", |byte| byte.is_ascii_whitespace() || *byte == 0x0b),
    ];
    classes.iter().find_map(|(name, class)| Some((*class, text.strip_prefix(*name)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_glob_does() {
        for (pattern, yes, no) in [
            ("*.conf", &["a.conf", "a.b.conf"][..], &[".conf", ".a.conf", "a.conf~", "a.con"][..]),
            (".*", &[".a"], &["a"]),
            ("?a", &["ba"], &[".a", "a", "bba"]),
            ("[!a]*", &["b"], &["a", ".b"]),
            ("[^a-c]x", &["dx"], &["bx"]),
            ("[]a]", &["]", "a"], &["b"]),
            ("[a-]", &["-", "a"], &["b"]),
            ("[[:digit:]]*", &["10-app"], &["a"]),
            ("[a", &["[a"], &["a"]),
            ("\\*", &["*"], &["a"]),
            ("a**b*c", &["abc", "axxbyyc", "abbcc"], &["ab", "acb"]),
            ("*a*b", &["aab", "abab"], &["aba"]),
            ("*", &["a"], &[".a"]),
        ] {
            let of = Pattern::new(pattern.as_bytes());
            for name in yes {
                assert!(of.matches(name.as_bytes()), "{pattern} {name}");
            }
            for name in no {
                assert!(!of.matches(name.as_bytes()), "{pattern} {name}");
            }
        }
        assert_eq!(Pattern::new(b"a\\*b").literal(), Some(b"a*b".to_vec()));
        assert!(Pattern::new(b"a*b").literal().is_none());
    }

    #[test]
    fn takes_bounded_time() {
        let name = "a".repeat(255);
        for pattern in
            ["*a".repeat(2000) + "b", "*".to_owned() + &"a".repeat(127) + "b", "[[:".repeat(1300)]
        {
            for _ in 0..40 {
                assert!(!Pattern::new(pattern.as_bytes()).matches(name.as_bytes()));
            }
        }
    }
}
