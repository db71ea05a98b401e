use super::*;
use crate::logs::tests::{fixture, summary, words};

#[test]
fn real_lines() {
    insta::assert_snapshot!(summary("envoy.log", parse));
}
#[test]
fn real_lines_istio() {
    insta::assert_snapshot!(summary("envoy-istio.log", parse));
}
#[test]
fn real_lines_json() {
    insta::assert_snapshot!(summary("envoy-json.log", parse));
}
