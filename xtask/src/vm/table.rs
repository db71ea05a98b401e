//! The results: a line for each test, a column for each kernel, a block for each rung.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// All results, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Results {
    lines: Vec<Value>,
    features: Vec<Value>,
}

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

/// A value that is a text; empty where there is none.
pub(crate) fn text<'a>(line: &'a Value, key: &str) -> &'a str {
    line[key].as_str().unwrap_or_default()
}

/// What the scenario calls the rung of tests that depend on no hooks.
const NO_HOOKS: &str = "check";

/// How the results of a rung are headed.
pub(crate) fn title(rung: &str) -> String {
    if rung == NO_HOOKS { "socklife check".to_owned() } else { format!("--hooks {rung}") }
}

impl Results {
    /// Takes a result; `vm` names the kernel as it was asked for.
    fn add(&mut self, vm: &str, mut line: Value) {
        line["vm"] = vm.into();
        self.lines.push(line);
    }

    /// What became of a kernel as a whole.
    pub(crate) fn add_boot(&mut self, vm: &str, outcome: &str, detail: &str) {
        let line = serde_json::json!({ "test": "boot", "outcome": outcome, "detail": detail });
        self.add(vm, line);
    }

    /// Takes what `socklife-scenario` printed.
    pub(crate) fn read(&mut self, vm: &str, printed: &str) {
        for line in printed.lines().map(str::trim) {
            let (json, is_test) = match line.split_once(' ') {
                Some(("SCENARIO", json)) => (json, true),
                Some(("FEATURE", json)) => (json, false),
                _ => continue,
            };
            match serde_json::from_str(json) {
                Ok(result) if is_test => self.add(vm, result),
                Ok(feature) => self.features.push(feature),
                Err(error) => self.add_boot(vm, "fail", &format!("{error}: {line}")),
            }
        }
    }

    /// Results of tests.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &Value> {
        self.lines.iter()
    }

    /// What `socklife features` said.
    pub(crate) fn features(&self) -> impl Iterator<Item = &Value> {
        self.features.iter()
    }

    /// One object a line.
    pub(crate) fn json(&self) -> String {
        let all = self.lines.iter().chain(&self.features);
        all.fold(String::new(), |text, line| text + &format!("{line}\n"))
    }

    /// What is not seen on a rung counts as passed: that nothing false is told was checked.
    pub(crate) fn sum(&self) -> Sum {
        let count = |outcomes: &[&str]| {
            self.lines.iter().filter(|line| outcomes.contains(&text(line, "outcome"))).count()
        };
        Sum {
            passed: count(&["pass", "unseen"]),
            failed: count(&["fail"]),
            skipped: count(&["skip"]),
        }
    }

    /// For a person.
    pub(crate) fn table(&self, kernels: &[&str]) -> String {
        let tests: Vec<_> = self.lines.iter().filter(|line| line["rung"].is_string()).collect();
        let mut rungs: Vec<&str> = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        for line in &tests {
            for (known, key) in [(&mut rungs, "rung"), (&mut names, "test")] {
                if !known.contains(&text(line, key)) {
                    known.push(text(line, key));
                }
            }
        }
        let width = names.iter().map(|name| name.len()).max().unwrap_or(0).max(10);
        let mut out = String::new();
        for rung in rungs {
            out += &format!("{:width$}", title(rung));
            for kernel in kernels {
                out += &format!("  {kernel:>8}");
            }
            out += "\n";
            for name in &names {
                let cells = kernels.iter().map(|kernel| {
                    let found = tests.iter().find(|line| {
                        (text(line, "vm"), text(line, "rung"), text(line, "test"))
                            == (*kernel, rung, *name)
                    });
                    let cell = found.map_or("", |line| match text(line, "outcome") {
                        "pass" => "pass",
                        "unseen" => "unseen",
                        _ => "FAIL",
                    });
                    format!("  {cell:>8}")
                });
                out += &format!("{name:width$}{}\n", cells.collect::<String>());
            }
            out.push('\n');
        }
        out + &self.remarks("pass", "NOTE")
            + &self.remarks("unseen", "NOT SEEN")
            + &self.remarks("fail", "FAILED")
            + &self.remarks("skip", "SKIPPED")
    }

    /// Why tests ended as they did, each reason once, with where it holds.
    fn remarks(&self, outcome: &str, title: &str) -> String {
        let mut reasons: BTreeMap<(&str, &str, &str), BTreeSet<&str>> = BTreeMap::new();
        for line in self.lines.iter().filter(|line| text(line, "outcome") == outcome) {
            if text(line, "detail").is_empty() || outcome == "pass" && line["rung"].is_null() {
                continue;
            }
            let key = (text(line, "vm"), text(line, "rung"), text(line, "detail"));
            reasons.entry(key).or_default().insert(text(line, "test"));
        }
        let shown = reasons.iter().map(|((vm, rung, detail), tests)| {
            let tests = match tests.len() {
                1..=3 => tests.iter().copied().collect::<Vec<_>>().join(", "),
                n => format!("{n} tests"),
            };
            format!("{title} {vm} {rung} {tests}: {detail}\n")
        });
        shown.collect()
    }
}
