//! docs/kernels.md: which hook each event has on which kernel, and how the tests ended.

use std::fmt::Write as _;

use serde_json::Value;

use super::table::{Results, text, title};

const INTRO: &str = "\
# Kernels

Written by `cargo xtask vm --write-docs`, which runs the same scenario on these kernels (see
[development.md](development.md#other-kernels)). What the hooks cost and can't do: `socklife features` and
[events.md](events.md#hooks).
";

/// A row of cells.
fn row<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    cells.into_iter().fold("|".to_owned(), |row, cell| row + " " + cell + " |") + "\n"
}

fn head(first: &str, columns: &[&str]) -> String {
    let titles = row([first].into_iter().chain(columns.iter().copied()));
    titles + &"|---".repeat(columns.len() + 1) + "|\n"
}

/// Values of a key, each once, in the order in which they came.
fn distinct<'a>(lines: impl Iterator<Item = &'a Value>, key: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    for line in lines {
        let value = text(line, key);
        if !value.is_empty() && !found.contains(&value) {
            found.push(value);
        }
    }
    found
}

/// Remarks with numbers, each once.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    fn number(&mut self, note: &str) -> usize {
        let known = self.0.iter().position(|known| known == note);
        known.unwrap_or_else(|| {
            self.0.push(note.to_owned());
            self.0.len() - 1
        }) + 1
    }

    fn list(&self) -> String {
        let lines = self.0.iter().enumerate();
        lines.fold(String::new(), |mut list, (index, note)| {
            // Writing into a string can't fail.
            let _ = writeln!(list, "{}. {note}", index + 1);
            list
        })
    }
}

/// The whole page.
pub(crate) fn page(results: &Results) -> String {
    let mut kernels = distinct(results.lines(), "kernel");
    kernels.sort_by_key(|release| numbers(release));
    let mut page = INTRO.to_owned();
    page += "\n## Hooks under `--hooks auto`\n\n";
    page += &head("event", &kernels);
    let auto = || results.features().filter(|line| text(line, "hooks") == "auto");
    for event in distinct(auto(), "event") {
        let cell = |kernel: &&str| {
            let of_it =
                |line: &&Value| text(line, "kernel") == *kernel && text(line, "event") == event;
            match auto().find(of_it) {
                Some(line) if line["inferred"] == true => "inferred".to_owned(),
                Some(line) if line["rung"].is_string() => format!("`{}`", text(line, "rung")),
                Some(_) => "none".to_owned(),
                None => String::new(),
            }
        };
        let cells: Vec<_> = kernels.iter().map(cell).collect();
        let name = format!("`{event}`");
        page += &row([name.as_str()].into_iter().chain(cells.iter().map(String::as_str)));
    }
    page += "\nAll but those that are inferred from state changes are exact.\n";
    page += "\n## Tests\n\n`unseen`: these hooks can't see it on this kernel, `socklife features` says so, and \
             nothing false was\nreported.\n";
    let mut notes = Notes::default();
    for rung in distinct(results.lines(), "rung") {
        let _ = write!(page, "\n### `{}`\n\n{}", title(rung), head("test", &kernels));
        for name in names(results) {
            let cells: Vec<_> = kernels
                .iter()
                .map(|kernel| cell(results, (kernel, rung, name), &mut notes))
                .collect();
            page += &row([name].into_iter().chain(cells.iter().map(String::as_str)));
        }
    }
    if !notes.0.is_empty() {
        let _ = write!(page, "\n### Notes\n\n{}", notes.list());
    }
    page
}

/// What a release is ordered by.
fn numbers(release: &str) -> Vec<u32> {
    release.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
}

/// A test is the same for each address family.
fn without_family(test: &str) -> &str {
    test.split_once("::").map_or(test, |(name, _)| name)
}

fn names(results: &Results) -> Vec<&str> {
    let mut found = Vec::new();
    for name in distinct(results.lines(), "test").into_iter().map(without_family) {
        if name != "boot" && !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// How a test ended, for all address families; where they differ, each with how often.
fn cell(results: &Results, (kernel, rung, name): (&str, &str, &str), notes: &mut Notes) -> String {
    let mut outcomes: Vec<(&str, usize)> = Vec::new();
    let mut numbers = Vec::new();
    for line in results.lines() {
        let test = (text(line, "kernel"), text(line, "rung"), without_family(text(line, "test")));
        if test != (kernel, rung, name) {
            continue;
        }
        let outcome = text(line, "outcome");
        match outcomes.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, count)) => *count += 1,
            None => outcomes.push((outcome, 1)),
        }
        let detail = text(line, "detail").lines().next().unwrap_or_default();
        if !detail.is_empty() {
            let number = notes.number(detail);
            if !numbers.contains(&number) {
                numbers.push(number);
            }
        }
    }
    let several = outcomes.len() > 1;
    let shown: Vec<_> = outcomes
        .iter()
        .map(|(outcome, count)| {
            let outcome = if *outcome == "fail" { "**FAIL**" } else { outcome };
            if several { format!("{count} {outcome}") } else { outcome.to_owned() }
        })
        .collect();
    let mut cell = shown.join(", ");
    for number in numbers {
        let _ = write!(cell, " ({number})");
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page() {
        let mut results = Results::default();
        results.read(
            "6.1",
            r#"FEATURE {"kernel":"6.1.0","hooks":"auto","event":"state","rung":"tp_btf/x","inferred":false,"why":""}
SCENARIO {"kernel":"6.1.0","rung":"auto","test":"refused::ipv4","outcome":"pass","detail":""}
SCENARIO {"kernel":"6.1.0","rung":"auto","test":"refused::ipv6","outcome":"unseen","detail":"no hook"}
SCENARIO-END {}"#,
        );
        let page = page(&results);
        for line in ["| event | 6.1.0 |", "| `state` | `tp_btf/x` |", "1. no hook"] {
            assert!(page.lines().any(|written| written == line), "{line} is not in\n{page}");
        }
        assert!(page.contains("| refused | 1 pass, 1 unseen (1) |"), "{page}");
    }
}
