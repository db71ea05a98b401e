//! The words of a configuration, as Nginx splits them (`src/core/ngx_conf_file.c`, `ngx_conf_read_token`).

use thiserror::Error;

/// Bytes of a word or comment at which Nginx gives up: its buffer (`NGX_CONF_BUFFER`).
pub const LONGEST_WORD: usize = 4096;
/// Most words of a statement. Nginx has no such limit.
const MOST_WORDS: usize = 100_000;

/// Text that Nginx refuses.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {what}")]
pub struct SyntaxError {
    /// The line, from 1.
    pub line: u32,
    /// What is wrong, in Nginx's words where it has some.
    pub what: String,
}

/// What a statement ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// `;`
    Semicolon,
    /// `{`
    Open,
    /// `}`, without words before it.
    Close,
    /// The end of the text, without words before it.
    End,
}

/// Words, and the mark after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Without quotes and escapes. Empty before [`Mark::Close`] and [`Mark::End`] only.
    pub words: Vec<Vec<u8>>,
    /// The line of the first word, or of the mark.
    pub line: u32,
    /// What follows them.
    pub mark: Mark,
}

/// A text, and how far it is read.
#[derive(Debug)]
pub struct Lexer {
    bytes: Vec<u8>,
    position: usize,
    line: u32,
}

/// Where in a statement the lexer is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    /// Between words.
    Space,
    /// After a quoted word: a space or a mark must follow.
    Quoted,
    /// In a word.
    Word,
    /// In a word in these quotes.
    Quotes(u8),
    /// In a comment.
    Comment,
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

impl Lexer {
    /// Of a whole file.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, position: 0, line: 1 }
    }

    /// What is not read yet.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        self.bytes.get(self.position..).unwrap_or_default()
    }

    /// Takes so many bytes as they are.
    pub fn take(&mut self, length: usize) -> Vec<u8> {
        let taken = self.rest().get(..length).unwrap_or(self.rest()).to_vec();
        self.position += taken.len();
        let lines = taken.split(|&byte| byte == b'\n').count() - 1;
        self.line = self.line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
        taken
    }

    /// An error where the lexer is.
    #[must_use]
    pub fn error(&self, what: impl Into<String>) -> SyntaxError {
        SyntaxError { line: self.line, what: what.into() }
    }

    fn unexpected(&self, byte: u8) -> SyntaxError {
        self.error(format!("unexpected \"{}\"", byte.escape_ascii()))
    }

    /// The words up to the next mark.
    ///
    /// # Errors
    /// A mark without words, `}` after words, something right after a quoted word, an end within a statement, a
    /// word of [`LONGEST_WORD`] bytes, or very many words.
    pub fn next_words(&mut self) -> Result<Statement, SyntaxError> {
        let mut words = Vec::new();
        let (mut start, mut start_line, mut line) = (self.position, self.line, None);
        let (mut inside, mut variable, mut escaped) = (Inside::Space, false, false);
        loop {
            let Some(&byte) = self.bytes.get(self.position) else {
                if words.is_empty() && matches!(inside, Inside::Space | Inside::Comment) {
                    return Ok(Statement { words, line: self.line, mark: Mark::End });
                }
                return Err(self.error("unexpected end of file, expecting \";\" or \"}\""));
            };
            if self.position - start >= LONGEST_WORD {
                return Err(SyntaxError { line: start_line, what: too_long(inside).to_owned() });
            }
            self.position += 1;
            if byte == b'\n' {
                self.line = self.line.saturating_add(1);
                if inside == Inside::Comment {
                    inside = Inside::Space;
                }
            }
            if inside == Inside::Comment {
                continue;
            }
            if std::mem::take(&mut escaped) {
                continue;
            }
            if inside == Inside::Quoted {
                match byte {
                    b';' | b'{' => {
                        return Ok(Statement {
                            words,
                            line: line.unwrap_or(self.line),
                            mark: mark(byte),
                        });
                    }
                    _ if is_space(byte) => {
                        inside = Inside::Space;
                        continue;
                    }
                    // `if ($a = "b")` has it.
                    b')' => inside = Inside::Space,
                    _ => return Err(self.unexpected(byte)),
                }
            }
            if inside == Inside::Space {
                (start, start_line) = (self.position - 1, self.line);
                if is_space(byte) {
                    continue;
                }
                match byte {
                    b';' | b'{' if words.is_empty() => return Err(self.unexpected(byte)),
                    b'}' if !words.is_empty() => return Err(self.unexpected(byte)),
                    b';' | b'{' | b'}' => {
                        return Ok(Statement {
                            words,
                            line: line.unwrap_or(self.line),
                            mark: mark(byte),
                        });
                    }
                    b'#' => inside = Inside::Comment,
                    _ => {
                        line = line.or(Some(self.line));
                        (inside, variable) = (Inside::Word, byte == b'$');
                        match byte {
                            b'\\' => escaped = true,
                            b'"' | b'\'' => (inside, start) = (Inside::Quotes(byte), start + 1),
                            _ => {}
                        }
                    }
                }
                continue;
            }
            if byte == b'{' && variable {
                continue;
            }
            variable = byte == b'$';
            if byte == b'\\' {
                escaped = true;
                continue;
            }
            let ends = match inside {
                Inside::Quotes(quote) => byte == quote,
                _ => is_space(byte) || byte == b';' || byte == b'{',
            };
            if !ends {
                continue;
            }
            if words.len() == MOST_WORDS {
                return Err(self.error(format!("more than {MOST_WORDS} words in a statement")));
            }
            words.push(unescaped(self.bytes.get(start..self.position - 1).unwrap_or_default()));
            if let Inside::Quotes(_) = inside {
                inside = Inside::Quoted;
            } else if byte == b';' || byte == b'{' {
                return Ok(Statement { words, line: line.unwrap_or(self.line), mark: mark(byte) });
            } else {
                inside = Inside::Space;
            }
        }
    }
}

fn mark(byte: u8) -> Mark {
    match byte {
        b';' => Mark::Semicolon,
        b'{' => Mark::Open,
        _ => Mark::Close,
    }
}

fn too_long(inside: Inside) -> &'static str {
    match inside {
        Inside::Quotes(b'"') => "too long parameter, probably missing terminating \"\"\" character",
        Inside::Quotes(_) => "too long parameter, probably missing terminating \"'\" character",
        _ => "too long parameter",
    }
}

/// A backslash is dropped before quotes and backslashes and stands for a control character before `t`, `r` and
/// `n`; before anything else it stays.
fn unescaped(raw: &[u8]) -> Vec<u8> {
    let mut word = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let [byte, after @ ..] = rest {
        let (byte, after) = match (byte, after) {
            (b'\\', [quoted @ (b'"' | b'\'' | b'\\'), after @ ..]) => (*quoted, after),
            (b'\\', [b't', after @ ..]) => (b'\t', after),
            (b'\\', [b'r', after @ ..]) => (b'\r', after),
            (b'\\', [b'n', after @ ..]) => (b'\n', after),
            _ => (*byte, after),
        };
        word.push(byte);
        rest = after;
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<(Vec<String>, Mark), String> {
        let mut lexer = Lexer::new(text.as_bytes().to_vec());
        let found = lexer.next_words().map_err(|error| error.to_string())?;
        let word = |word: &Vec<u8>| String::from_utf8_lossy(word).into_owned();
        Ok((found.words.iter().map(word).collect(), found.mark))
    }

    #[track_caller]
    fn assert_words(text: &str, expected: &[&str]) {
        let expected = expected.iter().map(|&word| word.to_owned()).collect();
        assert_eq!(words(text), Ok((expected, Mark::Semicolon)), "{text}");
    }

    #[test]
    fn splits_as_nginx_does() {
        assert_words("a b\tc\r\n d;", &["a", "b", "c", "d"]);
        assert_words("a # b; {\n c#d;", &["a", "c#d"]);
        assert_words("a 'b;c' \"d{ 'e\";", &["a", "b;c", "d{ 'e"]);
        assert_words(
            "a \"b\\\"c\" 'd\\'e' '\\n\\t\\r\\d' f\\\\g;",
            &["a", "b\"c", "d'e", "\n\t\r\\d", "f\\g"],
        );
        assert_words("a b\"c d\"e;", &["a", "b\"c", "d\"e"]);
        assert_words("a ${b}c $d${{e;", &["a", "${b}c", "$d${{e"]);
        assert_words("if ($a = \"b\") x;", &["if", "($a", "=", "b", ")", "x"]);
        assert_words("a \\ b\\;c \\#d;", &["a", "\\ b\\;c", "\\#d"]);
        assert_words("a '' \"\";", &["a", "", ""]);
        assert_words("\u{feff}a;", &["\u{feff}a"]);
        assert_eq!(words("a{").unwrap().1, Mark::Open);
        assert_eq!(words(" }").unwrap().1, Mark::Close);
        assert_eq!(words(" # c").unwrap().1, Mark::End);
    }

    #[test]
    fn refuses_as_nginx_does() {
        for (text, error) in [
            ("\n;", "line 2: unexpected \";\""),
            ("{", "line 1: unexpected \"{\""),
            ("a }", "line 1: unexpected \"}\""),
            ("a 'b'c;", "line 1: unexpected \"c\""),
            ("a\n 'b", "line 2: unexpected end of file, expecting \";\" or \"}\""),
            ("a", "line 1: unexpected end of file, expecting \";\" or \"}\""),
        ] {
            assert_eq!(words(text), Err(error.to_owned()), "{text}");
        }
        let of = |length: usize| words(&format!("a\n{};", "b".repeat(length)));
        assert!(of(LONGEST_WORD - 1).is_ok());
        assert_eq!(of(LONGEST_WORD), Err("line 2: too long parameter".to_owned()));
        assert!(words(&format!("#{}\na;", "b".repeat(LONGEST_WORD))).is_err());
        assert!(words(&"a ".repeat(MOST_WORDS + 1)).unwrap_err().contains("more than"));
    }
}
