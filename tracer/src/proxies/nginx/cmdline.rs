//! Where the main configuration file is, by a master's command line and the program itself.

use std::{
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// What the master writes before its arguments when it renames itself (`src/os/unix/ngx_process_cycle.c`).
const TITLE: &[u8] = b"nginx: master process ";
/// Configuration file and prefix of common builds: Debian's, nginx.org's, that of `OpenResty`, and one without options.
const BUILDS: [(&str, &str); 4] = [
    ("/etc/nginx/nginx.conf", "/usr/share/nginx/"),
    ("/etc/nginx/nginx.conf", "/etc/nginx/"),
    ("/usr/local/openresty/nginx/conf/nginx.conf", "/usr/local/openresty/nginx/"),
    ("/usr/local/nginx/conf/nginx.conf", "/usr/local/nginx/"),
];
/// Longest path or text that is taken from a command line or program.
const LONGEST: usize = 4096;

/// A place where a configuration may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The main file.
    pub main: PathBuf,
    /// What relative paths of logs begin from.
    pub prefix: PathBuf,
}

/// What a master was started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The program, as it was called.
    pub program: String,
    /// `-c`
    pub conf: Option<String>,
    /// `-p`
    pub prefix: Option<String>,
    /// `-g`: directives that come before the file's.
    pub globals: String,
}

/// What a program was built with: its `configure arguments`, which it holds as text to print for `-V`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Built {
    /// `--prefix=`
    pub prefix: Option<String>,
    /// `--conf-path=`
    pub conf: Option<String>,
}

impl Options {
    /// From `/proc/PID/cmdline`. In a master's title arguments are joined by spaces, so that one with spaces in it
    /// is not told from two: the text of `-g` is taken to go on until an option follows a word that ends with `;`.
    #[must_use]
    pub fn of(cmdline: &[u8]) -> Self {
        let text = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes.get(..LONGEST).unwrap_or(bytes)).into_owned()
        };
        let end = cmdline.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let cmdline = cmdline.get(..end).unwrap_or_default();
        let (separator, arguments) = match cmdline.strip_prefix(TITLE) {
            Some(title) => (b' ', title),
            None => (0, cmdline),
        };
        let mut words = arguments.split(|&byte| byte == separator).peekable();
        let mut options =
            Self { program: text(words.next().unwrap_or_default()), ..Self::default() };
        while let Some(word) = words.next() {
            // Flags and the letter of an option can stand in one word: `-qc/x`.
            let Some(letters) = word.strip_prefix(b"-") else { continue };
            let letter = letters.iter().position(|letter| b"pcges".contains(letter));
            let Some((letter, joined)) = letter.and_then(|at| letters.get(at..)?.split_first())
            else {
                continue;
            };
            let value = if joined.is_empty() { words.next().unwrap_or_default() } else { joined };
            match letter {
                b'c' => options.conf = Some(text(value)),
                b'p' => options.prefix = Some(text(value)),
                b'g' => {
                    let mut globals = value.to_vec();
                    while separator == b' '
                        && let Some(word) = words.next_if(|word| {
                            globals.last() != Some(&b';') || !word.starts_with(b"-")
                        })
                    {
                        globals.push(b' ');
                        globals.extend(word);
                    }
                    options.globals = text(&globals);
                }
                _ => {}
            }
        }
        options
    }

    /// Where the main file may be, the most likely place first (`src/core/nginx.c`, `ngx_process_options`).
    /// `cwd`: the master's current directory.
    #[must_use]
    pub fn candidates(&self, built: &Built, cwd: &Path) -> Vec<Candidate> {
        let mut defaults = Vec::new();
        if built.prefix.is_some() || built.conf.is_some() {
            let prefix = built.prefix.as_deref().unwrap_or("/usr/local/nginx");
            defaults.push((built.conf.as_deref().unwrap_or("conf/nginx.conf"), prefix));
        }
        defaults.extend(BUILDS);
        if self.program.contains("openresty") {
            defaults.sort_by_key(|(main, _)| !main.contains("openresty"));
        }
        let mut candidates = Vec::new();
        for (main, prefix) in defaults {
            let prefix = cwd.join(self.prefix.as_deref().unwrap_or(prefix));
            let main = prefix.join(self.conf.as_deref().unwrap_or(main));
            let candidate = Candidate { main, prefix };
            if !candidates.contains(&candidate) {
                candidates.push(candidate);
            }
        }
        candidates
    }
}

impl Built {
    /// From the program's bytes.
    #[must_use]
    pub fn of(program: &[u8]) -> Self {
        Self { prefix: argument(program, b" --prefix="), conf: argument(program, b" --conf-path=") }
    }
}

/// The value of an argument in the line of arguments.
fn argument(program: &[u8], name: &[u8]) -> Option<String> {
    let line = position(program, b"configure arguments: ")?;
    let line = program.get(line..)?;
    let line = line.split(|&byte| byte == 0).next()?;
    let value = line.get(position(line, name)? + name.len()..)?;
    let value = value.split(|&byte| byte == b' ' || byte == b'\n').next()?;
    let value = value.strip_prefix(b"'").and_then(|it| it.strip_suffix(b"'")).unwrap_or(value);
    let path = std::str::from_utf8(value).ok().filter(|path| path.len() <= LONGEST)?;
    Path::new(path).as_os_str().as_bytes().starts_with(b"/").then(|| path.to_owned())
}

fn position(text: &[u8], wanted: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(cmdline: &[u8]) -> (String, String, String) {
        let options = Options::of(cmdline);
        let candidates = options.candidates(&Built::default(), Path::new("/cwd"));
        let shown = |path: &Path| path.display().to_string();
        (shown(&candidates[0].main), shown(&candidates[0].prefix), options.globals)
    }

    #[track_caller]
    fn assert_first(cmdline: &[u8], main: &str, prefix: &str, globals: &str) {
        assert_eq!(first(cmdline), (main.to_owned(), prefix.to_owned(), globals.to_owned()));
    }

    #[test]
    fn by_title() {
        let debian = ("/etc/nginx/nginx.conf", "/usr/share/nginx/");
        assert_first(
            b"nginx: master process /usr/sbin/nginx -g daemon on; master_process on;\0\0\0",
            debian.0,
            debian.1,
            "daemon on; master_process on;",
        );
        assert_first(
            b"nginx: master process nginx -g daemon off; -c /x.conf -p /y\0",
            "/x.conf",
            "/y",
            "daemon off;",
        );
        assert_first(b"nginx: master process nginx -c/x.conf", "/x.conf", debian.1, "");
        assert_first(
            b"nginx: master process nginx -p . -c conf/a.conf",
            "/cwd/./conf/a.conf",
            "/cwd/.",
            "",
        );
        assert_first(
            b"nginx: master process /usr/local/openresty/bin/openresty -g daemon off;",
            "/usr/local/openresty/nginx/conf/nginx.conf",
            "/usr/local/openresty/nginx/",
            "daemon off;",
        );
        // Text that never ends with `;` is refused by Nginx: it has to go on.
        assert_first(
            b"nginx: master process nginx -g error_log -c; -e /x",
            debian.0,
            debian.1,
            "error_log -c;",
        );
    }

    #[test]
    fn by_arguments() {
        assert_first(
            b"nginx\0-g\0daemon off; worker_processes 4;\0-qc\0/a b.conf\0",
            "/a b.conf",
            "/usr/share/nginx/",
            "daemon off; worker_processes 4;",
        );
        for odd in
            [&b""[..], b"\0", b"nginx\0-c", b"nginx\0-", b"nginx: master process ", b"-g\0\0\xff"]
        {
            assert!(!Options::of(odd).candidates(&Built::default(), Path::new("/")).is_empty());
        }
    }

    #[test]
    fn by_the_program() {
        let program = b"\x7fELF --prefix=/no\0configure arguments: --with-cc-opt='-g -O2' --prefix=/opt/nginx --conf-path=/opt/etc/n.conf --x\0";
        let built = Built::of(program);
        assert_eq!(built.prefix.as_deref(), Some("/opt/nginx"));
        let found = Options::default().candidates(&built, Path::new("/"));
        assert_eq!(found[0].main, Path::new("/opt/etc/n.conf"));
        let built = Built::of(b"configure arguments: --prefix=/opt/nginx\0");
        let found = Options::default().candidates(&built, Path::new("/"));
        assert_eq!(found[0].main, Path::new("/opt/nginx/conf/nginx.conf"));
        assert_eq!(Built::of(b"configure arguments: --prefix=../x"), Built::default());
    }
}
