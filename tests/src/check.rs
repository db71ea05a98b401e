//! `socklife check`, what it found, and the settings that its remedies name.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{
    net::Namespace,
    process::Finished,
    socklife::{Socklife, last_line, socklife},
};

/// What a check found.
#[derive(Debug)]
pub struct Check {
    /// Its exit code.
    pub code: i32,
    /// The object that it printed.
    pub found: Value,
}

/// Exit codes by status.
const CODES: [(&str, i32); 4] = [("OK", 0), ("WARNING", 1), ("CRITICAL", 2), ("UNKNOWN", 3)];

impl Check {
    /// Runs `socklife check ARGUMENTS` once.
    ///
    /// # Errors
    /// It prints no object, or its exit code is another than its status says.
    pub fn once(arguments: &[&str]) -> Result<Self> {
        Self::of(&socklife(&[&["check", "--format=json"], arguments].concat())?)
    }

    /// The same, of one network namespace.
    ///
    /// # Errors
    /// As [`Check::once`].
    pub fn of_namespace(namespace: &Namespace, arguments: &[&str]) -> Result<Self> {
        Self::once(&[&["--netns", &namespace.path()], arguments].concat())
    }

    /// Starts one that watches for some seconds; watching when this returns.
    ///
    /// # Errors
    /// It ends instead.
    pub fn watch(namespace: &Namespace, arguments: &[&str]) -> Result<Watch> {
        let path = namespace.path();
        let all = [&["check", "--format=json", "--netns", &path], arguments].concat();
        Ok(Watch(Socklife::start(&all)?))
    }

    /// Reads what one printed.
    ///
    /// # Errors
    /// As [`Check::once`].
    pub fn of(end: &Finished) -> Result<Self> {
        ensure!(end.stdout.lines().count() == 1, "one object: {}{}", end.stdout, end.stderr);
        let found = last_line(&end.stdout)?;
        let expected = CODES.iter().find(|(status, _)| found["status"] == *status);
        let (_, code) = expected.with_context(|| format!("no status: {found}"))?;
        ensure!(end.code == Some(*code), "exit code {:?} with {}", end.code, found["status"]);
        Ok(Self { code: *code, found })
    }

    /// The findings of a ceiling and scope.
    #[must_use]
    pub fn all(&self, ceiling: &str, scope: &str) -> Vec<&Value> {
        Self::among(&self.found["ceilings"], ceiling, scope)
    }

    /// The same, of those that a change of settings would have.
    #[must_use]
    pub fn would_be(&self, ceiling: &str, scope: &str) -> Vec<&Value> {
        Self::among(&self.found["what_if"]["ceilings"], ceiling, scope)
    }

    fn among<'a>(findings: &'a Value, ceiling: &str, scope: &str) -> Vec<&'a Value> {
        let all = findings.as_array().into_iter().flatten();
        all.filter(|finding| finding["ceiling"] == ceiling && finding["scope"] == scope).collect()
    }

    /// The one finding of a ceiling and scope that has these.
    ///
    /// # Errors
    /// There is another number of them.
    pub fn one(&self, ceiling: &str, scope: &str, with: &[(&str, Value)]) -> Result<&Value> {
        only(&self.all(ceiling, scope), with).with_context(|| format!("{ceiling} {scope}"))
    }

    /// The finding of the connects to one address and port.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn upstream(&self, dst: &str, dport: u16) -> Result<&Value> {
        let with = [("dst", Value::from(dst)), ("dport", dport.into())];
        self.one("ephemeral-ports", "upstream", &with)
    }
}

/// The one finding that has these.
///
/// # Errors
/// There is another number of them.
pub fn only<'a>(findings: &[&'a Value], with: &[(&str, Value)]) -> Result<&'a Value> {
    let has = |finding: &&&Value| with.iter().all(|(key, value)| finding[*key] == *value);
    let found: Vec<&Value> = findings.iter().filter(has).copied().collect();
    match found[..] {
        [one] => Ok(one),
        _ => bail!("{} findings with {with:?} of {findings:?}", found.len()),
    }
}

/// A check that watches.
#[derive(Debug)]
pub struct Watch(Socklife);

impl Watch {
    /// Waits for its end; it must still be watching now.
    ///
    /// # Errors
    /// It has ended before what it was to see was done, or as [`Check::once`].
    pub fn end(mut self) -> Result<Check> {
        ensure!(!self.0.ended()?, "its interval was over too early");
        Check::of(&self.0.finish()?)
    }
}

/// Fails unless a finding has these.
///
/// # Errors
/// It has something else.
pub fn expect(finding: &Value, with: &[(&str, Value)]) -> Result<()> {
    for (key, value) in with {
        ensure!(finding[*key] == *value, "{key} is not {value}: {finding}");
    }
    Ok(())
}

/// How many failures of a name a finding has of the time in which it watched.
#[must_use]
pub fn failures(finding: &Value, name: &str) -> u64 {
    failure(finding, name, "interval").and_then(|failure| failure["count"].as_u64()).unwrap_or(0)
}

/// The failures of a name, since then.
#[must_use]
pub fn failure<'a>(finding: &'a Value, name: &str, since: &str) -> Option<&'a Value> {
    let mut all = finding["failures"].as_array().into_iter().flatten();
    all.find(|failure| failure["error"] == name && failure["since"] == since)
}

/// Whether a finding has failures of the time in which it watched.
#[must_use]
pub fn fails(finding: &Value) -> bool {
    let mut all = finding["failures"].as_array().into_iter().flatten();
    all.any(|failure| failure["since"] == "interval")
}

/// The settings that a text gives as `name = value` or `name=value`, for sysctls of one or two numbers.
#[must_use]
pub fn sysctls(remedy: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (at, _) in remedy.match_indices('=') {
        let name: String = (remedy[..at].trim_end().chars().rev())
            .take_while(|c| c.is_ascii_alphanumeric() || "._".contains(*c))
            .collect();
        let name: String = name.chars().rev().collect();
        if !["net.", "fs."].iter().any(|root| name.starts_with(root)) {
            continue;
        }
        let value = remedy[at + 1..].trim_start_matches(|c| "\"' ".contains(c));
        let end = value.find(|c: char| !c.is_ascii_digit() && c != ' ' && c != '\t');
        let numbers: Vec<&str> = value[..end.unwrap_or(value.len())].split_whitespace().collect();
        let wanted = if name.ends_with("ip_local_port_range") { 2 } else { 1 };
        if numbers.len() >= wanted {
            found.insert(name, numbers[..wanted].join(" "));
        }
    }
    found
}

/// The value of one of them.
///
/// # Errors
/// The remedy of the finding doesn't name it.
pub fn remedy(finding: &Value, name: &str) -> Result<String> {
    let text = finding["remedy"].as_str().with_context(|| format!("no remedy: {finding}"))?;
    sysctls(text).remove(name).with_context(|| format!("no value for {name} in: {text}"))
}

/// The first number behind one of some words in the remedy of a finding.
///
/// # Errors
/// There is none.
pub fn remedy_number(finding: &Value, behind: &[&str]) -> Result<u64> {
    let text = finding["remedy"].as_str().with_context(|| format!("no remedy: {finding}"))?;
    let number = behind.iter().find_map(|word| {
        let (_, rest) = text.split_once(word)?;
        let rest = rest.trim_start_matches(|c: char| "=:(\"' ".contains(c));
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().ok()
    });
    number.with_context(|| format!("no number behind any of {behind:?}: {text}"))
}

/// Who a finding names: process ids and how many sockets each has.
#[must_use]
pub fn who(finding: &Value) -> BTreeMap<u64, u64> {
    let all = finding["who"].as_array().into_iter().flatten();
    all.filter_map(|who| Some((who["pid"].as_u64()?, who["sockets"].as_u64()?))).collect()
}

/// Who failed: process ids and how often each.
#[must_use]
pub fn who_failed(finding: &Value, name: &str) -> BTreeMap<u64, u64> {
    let all = failure(finding, name, "interval").and_then(|failure| failure["who"].as_array());
    let all = all.into_iter().flatten();
    all.filter_map(|who| Some((who["pid"].as_u64()?, who["count"].as_u64()?))).collect()
}
