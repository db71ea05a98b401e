//! From files to [`Settings`].

use std::{io, path::Path, rc::Rc, vec};

use thiserror::Error;

use super::{
    super::files::Files,
    collect::Collector,
    include::{Found, Sources, shown},
    lexer::SyntaxError,
    settings::Settings,
    statements::{Body, Directive, Statements, Step},
};

/// Most files that include each other.
const DEEPEST: usize = 64;
/// Most directives of all files.
const MOST_DIRECTIVES: usize = 1_000_000;

/// Why there are no settings.
#[derive(Debug, Error)]
pub enum ConfError {
    /// The main file can't be read.
    #[error("can't read {path}, the configuration of Nginx: {error}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Nginx would refuse the main file, or `-g`.
    #[error(
        "{path}, {error}: Nginx refuses it too, and runs by an older one; `nginx -t` says what is wrong"
    )]
    Syntax {
        /// The file.
        path: String,
        /// What is wrong.
        #[source]
        error: SyntaxError,
    },
    /// Paths are text here.
    #[error("{path}: the path of the configuration is no UTF-8; give Nginx another by `-c`")]
    Path {
        /// The file.
        path: String,
    },
}

/// A file that is being read.
struct Open {
    path: Rc<Path>,
    statements: Statements,
    /// Blocks around it.
    depth: usize,
    /// Files that its last `include` leads to.
    found: vec::IntoIter<Found>,
}

impl Open {
    fn new(path: &Path, content: Vec<u8>, depth: usize) -> Self {
        let found = Vec::new().into_iter();
        Self { path: path.into(), statements: Statements::new(content), depth, found }
    }
}

/// Reads a configuration. `main`: the main file, `prefix`: what relative paths of logs begin from (both as
/// `cmdline` finds them), `globals`: the text of `-g`. An included file that can't be read or understood is noted
/// in [`Settings::unread`], and so is what is left out where there is too much.
///
/// # Errors
/// The main file can't be read, or Nginx would refuse it.
pub fn read(
    files: &dyn Files,
    main: &Path,
    prefix: &Path,
    globals: &str,
) -> Result<Settings, ConfError> {
    let main = prefix.join(main);
    let mut sources = Sources::new(files, &main);
    if main.to_str().is_none() || prefix.to_str().is_none() {
        return Err(ConfError::Path { path: shown(&main) });
    }
    let content =
        sources.main(&main).map_err(|error| ConfError::Read { path: shown(&main), error })?;
    let mut collector = Collector::new(prefix);
    let main = Open::new(&main, content, 1);
    let globals = Open::new(Path::new("-g"), globals.as_bytes().to_vec(), 1);
    let mut directives = MOST_DIRECTIVES;
    let stopped = [globals, main]
        .into_iter()
        .try_for_each(|start| walk(start, &mut sources, &mut collector, &mut directives));
    match stopped {
        Ok(()) => {}
        Err(Stop::Error(error)) => return Err(error),
        Err(Stop::TooMuch(what)) => sources.note(|| format!("left out what comes after {what}")),
    }
    Ok(collector.finish(sources))
}

/// Why reading stops.
enum Stop {
    Error(ConfError),
    TooMuch(String),
}

fn walk(
    start: Open,
    sources: &mut Sources<'_>,
    collector: &mut Collector,
    directives: &mut usize,
) -> Result<(), Stop> {
    let mut open = vec![start];
    while let Some(file) = open.last_mut() {
        if let Some(found) = file.found.next() {
            let next = enter(&found, &open, sources, collector.depth());
            open.extend(next.map_err(Stop::TooMuch)?);
            continue;
        }
        match file.statements.next() {
            Some(Ok(Step::Close)) => collector.close(),
            Some(Ok(Step::Directive(directive))) => {
                *directives = directives
                    .checked_sub(1)
                    .ok_or_else(|| Stop::TooMuch(format!("{MOST_DIRECTIVES} directives")))?;
                if let Some(argument) = included(&directive) {
                    // Data such as MIME types says nothing of connections.
                    if !collector.in_data() {
                        file.found = sources.find(argument).into_iter();
                    }
                } else {
                    let path = Rc::clone(&file.path);
                    collector.directive(&path, &directive, sources).map_err(Stop::TooMuch)?;
                }
            }
            Some(Err(error)) => {
                let (path, depth) = (shown(&file.path), file.depth);
                if open.len() == 1 {
                    return Err(Stop::Error(ConfError::Syntax { path, error }));
                }
                sources.note(|| format!("{path}, {error}: left out from there on"));
                collector.close_to(depth);
                open.pop();
            }
            None => {
                open.pop();
            }
        }
    }
    Ok(())
}

/// The argument of an `include`.
fn included(directive: &Directive) -> Option<&[u8]> {
    let is = directive.name() == b"include" && directive.body == Body::None;
    match directive.arguments() {
        [argument] if is => Some(argument),
        _ => None,
    }
}

/// Opens an included file, unless it can't be.
fn enter(
    found: &Found,
    open: &[Open],
    sources: &mut Sources<'_>,
    depth: usize,
) -> Result<Option<Open>, String> {
    let by = || open.last().map(|file| shown(&file.path)).unwrap_or_default();
    if open.iter().any(|file| *file.path == *found.path) {
        sources.note(|| format!("{}: includes itself, by {}", shown(&found.path), by()));
        return Ok(None);
    }
    if open.len() >= DEEPEST {
        sources.note(|| {
            format!("{}: over {DEEPEST} files that include each other", shown(&found.path))
        });
        return Ok(None);
    }
    let content = sources.open(found)?;
    Ok(content.map(|content| Open::new(&found.path, content, depth)))
}

#[cfg(test)]
mod tests;
