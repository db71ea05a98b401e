//! Where a HAProxy answers: from its command line and its configuration (configuration.txt, sections 2.2, 2.3 and 3.1,
//! `stats socket`; management.txt, section 3).

use std::{
    ffi::OsString,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{
    event::visible,
    proxies::{endpoint::Endpoint, files::Files, host},
};

/// What to do where there is no socket.
const ADVICE: &str =
    "add `stats socket /run/haproxy/admin.sock mode 600 level operator` to its section `global`";
/// Most files of configuration that are read.
const MOST_FILES: usize = 1024;
/// Most bytes of them.
const MOST_BYTES: usize = 16 << 20;
/// Most sockets that are tried.
const MOST_SOCKETS: usize = 8;

/// The endpoints of a process, in order.
pub(super) fn endpoints(pid: u32) -> Result<Vec<Endpoint>> {
    let arguments = host::arguments(pid).context("its command line can't be read")?;
    let paths = configured(&arguments);
    let mut failed = None;
    for place in host::places(pid).context("its files can't be looked at")? {
        let mut text = Vec::new();
        for path in &paths {
            if let Err(error) = read(&place, &place.cwd.join(path), &mut text) {
                failed = failed.or_else(|| Some((path.clone(), error)));
            }
        }
        let found = sockets(&text);
        let (known, unknown): (Vec<_>, Vec<_>) = found.into_iter().partition(Result::is_ok);
        if !known.is_empty() {
            return Ok(known.into_iter().flatten().take(MOST_SOCKETS).collect());
        }
        if let Some(Err(unknown)) = unknown.into_iter().next() {
            bail!("its runtime socket can't be made out: {unknown}; give it");
        }
    }
    match failed {
        Some((path, error)) => {
            let path = visible(path.as_os_str().as_bytes());
            Err(error).with_context(|| format!("its configuration {path} can't be read"))
        }
        None if paths.is_empty() => bail!("its command line names no configuration (`-f`)"),
        None => bail!("its configuration has no runtime socket: {ADVICE}"),
    }
}

/// The files and directories that hold its configuration: values of `-f`, and all words after `--`; relative ones are
/// in the directory of `-C`.
#[must_use]
pub fn configured(arguments: &[OsString]) -> Vec<PathBuf> {
    let (mut files, mut directory) = (Vec::new(), None);
    let mut words = arguments.iter().skip(1);
    while let Some(word) = words.next() {
        match word.as_bytes() {
            b"-f" => files.extend(words.next()),
            b"-C" => directory = words.next(),
            b"--" => files.extend(words.by_ref()),
            _ => {}
        }
    }
    let directory = directory.map_or(Path::new(""), Path::new);
    files.into_iter().map(|file| directory.join(file)).collect()
}

/// Appends a file, or those of a directory whose names end with `.cfg`, in order.
fn read(files: &dyn Files, path: &Path, to: &mut Vec<u8>) -> Result<()> {
    let mut add = |path: &Path| -> Result<()> {
        let bytes = files.read(path)?;
        if to.len().saturating_add(bytes.len()) > MOST_BYTES {
            bail!("over {} MiB of configuration", MOST_BYTES >> 20);
        }
        to.extend_from_slice(&bytes);
        to.push(b'\n');
        Ok(())
    };
    let Ok(names) = files.names(path) else { return add(path) };
    let wanted = |name: &OsString| {
        let name = name.as_bytes();
        name.ends_with(b".cfg") && !name.starts_with(b".")
    };
    names.iter().filter(|name| wanted(name)).take(MOST_FILES).try_for_each(|it| add(&path.join(it)))
}

/// The addresses of `stats socket` lines, in order: where they are, or why that can't be made out.
#[must_use]
pub fn sockets(configuration: &[u8]) -> Vec<Result<Endpoint, String>> {
    let lines = configuration.split(|&byte| byte == b'\n');
    lines.filter_map(socket).collect()
}

fn socket(line: &[u8]) -> Option<Result<Endpoint, String>> {
    let mut words = Words(line);
    let mut is = |wanted: &[u8]| words.next().is_some_and(|word| word.bytes == wanted);
    if !(is(b"stats") && is(b"socket")) {
        return None;
    }
    let word = words.next()?;
    let shown = visible(&word.bytes);
    if word.variable {
        return Some(Err(format!("{shown} holds an environment variable")));
    }
    let known = std::str::from_utf8(&word.bytes).ok().and_then(|text| text.parse().ok());
    Some(known.ok_or_else(|| format!("{shown} is no path of a socket and no address in figures")))
}

/// Words of a line: quotes, backslashes, comments.
struct Words<'a>(&'a [u8]);

struct Word {
    bytes: Vec<u8>,
    /// It holds an environment variable: they are put in within double quotes only.
    variable: bool,
}

impl Iterator for Words<'_> {
    type Item = Word;

    fn next(&mut self) -> Option<Word> {
        let (mut word, mut any, mut quote) =
            (Word { bytes: Vec::new(), variable: false }, false, None);
        while let Some((&byte, rest)) = self.0.split_first() {
            let blank = byte.is_ascii_whitespace() || byte == b'#';
            if quote.is_none() && blank && (any || byte == b'#') {
                break;
            }
            self.0 = rest;
            match (quote, byte) {
                (None, _) if blank => continue,
                (None, b'"' | b'\'') => quote = Some(byte),
                (Some(open), _) if open == byte => quote = None,
                (None | Some(b'"'), b'\\') => {
                    let Some((&next, rest)) = self.0.split_first() else { break };
                    self.0 = rest;
                    word.bytes.push(next);
                }
                (Some(b'"'), b'$') => {
                    word.variable = true;
                    word.bytes.push(byte);
                }
                _ => word.bytes.push(byte),
            }
            any = true;
        }
        any.then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let shown = |it: Result<Endpoint, String>| it.map_or_else(|no| no, |it| it.to_string());
        sockets(text.as_bytes()).into_iter().map(shown).collect()
    }

    #[test]
    fn runtime_sockets_are_found() {
        let text = "global\n\
                    \tstats socket /run/haproxy/admin.sock mode 660 level admin\n\
                    # stats socket /no\n\
                    stats  socket \"/run/with space\" # why\n\
                    stats socket /run/with\\ space\n\
                    stats socket '/run/$x'\n\
                    stats timeout 30s\n\
                    stats socket ipv4@127.0.0.1:9999 level user\r\n\
                    stats #socket /no\n\
                    frontend x\n  stats enable\n";
        let wanted = [
            "/run/haproxy/admin.sock",
            "/run/with space",
            "/run/with space",
            "/run/$x",
            "127.0.0.1:9999",
        ];
        assert_eq!(found(text), wanted);
    }

    #[test]
    fn what_cannot_be_made_out_says_why() {
        let [variable, inherited] =
            &found("stats socket \"${RUN}/a\"\nstats socket fd@4\nstats socket")[..]
        else {
            panic!()
        };
        assert!(variable.contains("${RUN}/a holds an environment variable"), "{variable}");
        assert!(inherited.contains("fd@4 is no path"), "{inherited}");
    }

    #[test]
    fn configurations_are_named_on_the_command_line() {
        let of = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(Into::into).collect();
            let paths = configured(&words);
            paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of("haproxy -Ws -f /etc/a.cfg -p /run/pid -f b"), "/etc/a.cfg b");
        assert_eq!(of("haproxy -C /etc -f a -- b /c"), "/etc/a /etc/b /c");
        assert_eq!(of("haproxy -f"), "");
    }

    #[test]
    fn a_directory_stands_for_its_files() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b.cfg", "a.cfg", ".c.cfg", "d"] {
            std::fs::write(directory.path().join(name), format!("stats socket /{name}")).unwrap();
        }
        let files = crate::proxies::files::Rooted::of(std::process::id()).unwrap();
        let mut text = Vec::new();
        read(&files, directory.path(), &mut text).unwrap();
        assert_eq!(text, b"stats socket /a.cfg\nstats socket /b.cfg\n");
    }
}
