//! Lua in a configuration: where a block of it ends.

/// Quotes without an end that are looked at on a line. Lua has none of these.
const MOST_OPEN_QUOTES: u32 = 16;

/// Whether a directive's block is Lua.
#[must_use]
pub fn is_lua(directive: &[u8]) -> bool {
    directive.ends_with(b"_by_lua_block")
}

/// The length of a block's code, which begins right after its `{`, up to its `}`. Braces in strings, long strings
/// and comments don't count (lua-nginx-module, `util/gen-lexer-c` and `ngx_http_lua_conf_read_lua_token`); a string
/// that does not end on its line is none.
///
/// # Errors
/// The block, or a long string or comment in it, has no end.
pub fn code_length(text: &[u8]) -> Result<usize, &'static str> {
    let (mut position, mut depth, mut open_quotes) = (0, 1_u32, 0);
    while let Some([byte, after @ ..]) = text.get(position..) {
        let length = match byte {
            b'{' => {
                depth += 1;
                1
            }
            b'}' if depth == 1 => return Ok(position),
            b'}' => {
                depth -= 1;
                1
            }
            b'[' => 1 + long_bracket(after)?.unwrap_or(0),
            b'-' => match after {
                [b'-', comment @ ..] => 2 + comment_length(comment)?,
                _ => 1,
            },
            b'"' | b'\'' if open_quotes < MOST_OPEN_QUOTES => string(*byte, after).map_or_else(
                || {
                    open_quotes += 1;
                    1
                },
                |length| 1 + length,
            ),
            b'\n' => {
                open_quotes = 0;
                1
            }
            _ => 1,
        };
        position += length;
    }
    Err("unexpected end of file, expecting terminating characters for lua code block")
}

/// After `--`.
fn comment_length(text: &[u8]) -> Result<usize, &'static str> {
    if let [b'[', after @ ..] = text
        && let Some(length) = long_bracket(after)?
    {
        return Ok(1 + length);
    }
    Ok(text.iter().position(|&byte| byte == b'\n').unwrap_or(text.len()))
}

/// After `[`: to the end of the long string, if one begins here.
fn long_bracket(text: &[u8]) -> Result<Option<usize>, &'static str> {
    let level = text.iter().take_while(|&&byte| byte == b'=').count();
    let Some([b'[', string @ ..]) = text.get(level..) else { return Ok(None) };
    let mut position = 0;
    // What is between two `]` is looked at once: no `=` is compared twice.
    while let Some(bracket) =
        string.get(position..).and_then(|rest| rest.iter().position(|&byte| byte == b']'))
    {
        position += bracket + 1;
        let after = string.get(position..).unwrap_or_default();
        let found = after.iter().take(level + 1).take_while(|&&byte| byte == b'=').count();
        if found == level && after.get(level) == Some(&b']') {
            return Ok(Some(level + 1 + position + level + 1));
        }
        position += found;
    }
    Err("Lua code block missing the closing long bracket")
}

/// After a quote: past the one that ends the string, on the same line.
fn string(quote: u8, text: &[u8]) -> Option<usize> {
    let mut position = 0;
    loop {
        match text.get(position..)? {
            [b'\n', ..] | [b'\\', b'\n', ..] | [] | [b'\\'] => return None,
            [b'\\', _, ..] => position += 2,
            [byte, ..] if *byte == quote => return Some(position + 1),
            _ => position += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_where_lua_does() {
        for code in [
            "",
            " local a = {{}, {1}} ",
            " s = '}' .. \"}\" .. 'it\\'s }' ",
            " s = [[ } ]] .. [==[ ]] ]=] } ]==] ",
            " -- } it's\n x() ",
            " --[[ }\n } ]] --[=[ } ]] ]=] x() ",
            " a[b[1]] = 1 - -2 ",
            // A quote without an end on its line is no string.
            " x = it's\n ",
            " [=[ ]==] ]=] ",
        ] {
            let text = format!("{code}}} }} rest");
            assert_eq!(code_length(text.as_bytes()), Ok(code.len()), "{text}");
        }
        for text in ["", "{}", "'}'", "-- }", "[[ } ]", "--[==[ } ]=]", "[=[ ]==]"] {
            assert!(code_length(text.as_bytes()).is_err(), "{text}");
        }
    }

    /// Strings that are tried from every quote, and brackets that never close, would take hours.
    #[test]
    fn takes_linear_time() {
        for text in ["\\\"", "[=", "'", "]=", "--[", "[==", "--"] {
            let _ = code_length(text.repeat(2_000_000).as_bytes());
        }
        let _ = code_length(
            format!("[{}[{}", "=".repeat(4_000_000), "]=".repeat(2_000_000)).as_bytes(),
        );
    }
}
