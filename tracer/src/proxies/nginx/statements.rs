//! The directives of a file, in its order: a tree, walked without recursion.

use super::{
    lexer::{Lexer, Mark, SyntaxError},
    lua,
};

/// What follows a directive's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing: `;`.
    None,
    /// Directives, up to their [`Step::Close`].
    Block,
    /// Lua, as it is.
    Lua(Vec<u8>),
}

/// A directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Its name, then its arguments; never empty.
    pub words: Vec<Vec<u8>>,
    /// The line of its name.
    pub line: u32,
    /// What follows.
    pub body: Body,
}

impl Directive {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.words.first().map(Vec::as_slice).unwrap_or_default()
    }

    /// Its arguments.
    #[must_use]
    pub fn arguments(&self) -> &[Vec<u8>] {
        self.words.get(1..).unwrap_or_default()
    }
}

/// A step of the walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A directive; where its body is a block, what follows is inside of it.
    Directive(Directive),
    /// The end of a block.
    Close,
}

/// The walk over a file. It ends after an error.
#[derive(Debug)]
pub struct Statements {
    lexer: Lexer,
    depth: usize,
    ended: bool,
}

impl Statements {
    /// Of a whole file.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { lexer: Lexer::new(bytes), depth: 0, ended: false }
    }

    fn step(&mut self) -> Result<Option<Step>, SyntaxError> {
        let found = self.lexer.next_words()?;
        let body = match found.mark {
            Mark::End if self.depth > 0 => {
                return Err(self.lexer.error("unexpected end of file, expecting \"}\""));
            }
            Mark::End => return Ok(None),
            Mark::Close => {
                let Some(depth) = self.depth.checked_sub(1) else {
                    return Err(self.lexer.error("unexpected \"}\""));
                };
                self.depth = depth;
                return Ok(Some(Step::Close));
            }
            Mark::Semicolon => Body::None,
            Mark::Open if found.words.first().is_some_and(|name| lua::is_lua(name)) => {
                let length = lua::code_length(self.lexer.rest());
                let code = self.lexer.take(length.map_err(|what| self.lexer.error(what))?);
                self.lexer.take(1);
                Body::Lua(code)
            }
            Mark::Open => {
                self.depth += 1;
                Body::Block
            }
        };
        Ok(Some(Step::Directive(Directive { words: found.words, line: found.line, body })))
    }
}

impl Iterator for Statements {
    type Item = Result<Step, SyntaxError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let step = self.step().transpose();
        self.ended = !matches!(step, Some(Ok(_)));
        step
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn steps(text: &[u8]) -> Result<Vec<Step>, SyntaxError> {
        Statements::new(text.to_vec()).collect()
    }

    #[test]
    fn blocks_are_balanced() {
        let error = |text: &str| steps(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(error("a {\n b {}"), "line 2: unexpected end of file, expecting \"}\"");
        assert_eq!(error("a {}\n }"), "line 2: unexpected \"}\"");
        assert_eq!(
            error("a_by_lua_block {\n '}'"),
            "line 1: unexpected end of file, expecting terminating characters for lua code block"
        );
        let found = steps(b"a_by_lua_block {\n { x }\n} b;\n").unwrap();
        let [Step::Directive(lua), Step::Directive(b)] = found.as_slice() else {
            panic!("{found:?}")
        };
        assert_eq!(lua.body, Body::Lua(b"\n { x }\n".to_vec()));
        assert_eq!((b.name(), b.line), (&b"b"[..], 3));
    }

    #[test]
    fn depth_takes_no_stack() {
        assert_eq!(steps("a {".repeat(500_000).as_bytes()).unwrap_err().line, 1);
        let deep = "a {".repeat(200_000) + &"}".repeat(200_000);
        assert_eq!(steps(deep.as_bytes()).unwrap().len(), 400_000);
    }

    /// As someone could have written it: quoted in one way or another.
    fn written(word: &[u8], how: u8) -> Vec<u8> {
        let quote = if how == 0 { b'"' } else { b'\'' };
        let mut text = vec![quote];
        for &byte in word {
            match byte {
                b'\n' if how == 2 => text.extend(b"\\n"),
                b'\t' if how == 2 => text.extend(b"\\t"),
                b'\\' => text.extend(b"\\\\"),
                _ if byte == quote => text.extend([b'\\', byte]),
                _ => text.push(byte),
            }
        }
        text.push(quote);
        text
    }

    fn directive() -> impl Strategy<Value = Vec<(Vec<u8>, u8)>> {
        let word = (prop::collection::vec(any::<u8>(), 0..12), 0..3_u8);
        prop::collection::vec(word, 1..5)
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(items in prop::collection::vec((directive(), 0..3_u8), 0..40)) {
            let (mut text, mut expected, mut depth) = (Vec::new(), Vec::new(), 0);
            for (words, shape) in &items {
                if *shape == 2 && depth > 0 {
                    text.push(b'}');
                    expected.push(Step::Close);
                    depth -= 1;
                    continue;
                }
                let mut line = 1;
                line += u32::try_from(text.split(|&byte| byte == b'\n').count() - 1).unwrap();
                for (word, how) in words {
                    text.extend(written(word, *how));
                    text.push(b' ');
                }
                let body = if *shape == 1 { Body::Block } else { Body::None };
                text.push(if *shape == 1 { b'{' } else { b';' });
                depth += u32::from(*shape == 1);
                let words: Vec<_> = words.iter().map(|(word, _)| word.clone()).collect();
                prop_assume!(!lua::is_lua(&words[0]));
                expected.push(Step::Directive(Directive { words, line, body }));
            }
            for _ in 0..depth {
                text.push(b'}');
                expected.push(Step::Close);
            }
            prop_assert_eq!(steps(&text), Ok(expected));
        }

        #[test]
        fn any_bytes_are_read_or_refused(text in "([a-z]{0,3}[ \\n;{}'\"\\\\#$]|a_by_lua_block \\{|[\\[\\]=-]){0,60}") {
            let _ = steps(text.as_bytes());
        }

        #[test]
        fn any_bytes_at_all(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = steps(&text);
        }
    }
}
