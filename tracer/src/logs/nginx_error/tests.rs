use super::*;
use crate::logs::tests::{fixture, summary, words};

fn say(line: &str) -> String {
    words(&parse(line.as_bytes(), &TimeZone::UTC))
}

#[test]
fn real_lines() {
    let text = summary("nginx-error.log", |line| parse(line, &TimeZone::UTC));
    let text: String = text
        .lines()
        .filter(|line| !line.ends_with(" nothing"))
        .map(|line| format!("{line}\n"))
        .collect();
    insta::assert_snapshot!(text);
}
