use super::*;
use crate::logs::tests::{fixture, summary, words};

#[test]
fn real_lines() {
    insta::assert_snapshot!(summary("haproxy.log", |line| parse(line, &TimeZone::UTC)));
}
#[test]
fn real_lines_of_syslog() {
    insta::assert_snapshot!(summary("haproxy-syslog.log", |line| parse(line, &TimeZone::UTC)));
}
