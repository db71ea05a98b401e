use super::*;
use crate::logs::tests::{fixture, summary, words};

const UP: &str = r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" ua="$upstream_addr" us="$upstream_status" rt=$request_time"#;
const JS: &str = r#"{"t":"$time_iso8601","status":$status,"upstream_addr":"$upstream_addr","upstream_status":"$upstream_status","request":"$request","ref":"$http_referer"}"#;
const SP: &str = "$msec $http_user_agent $status $upstream_addr $upstream_status $http_referer";

#[test]
fn real_up() {
    let up = Format::compile(UP, Escape::Default).unwrap();
    insta::assert_snapshot!(summary("nginx-access-upstream.log", |l| up.parse(l)));
}
#[test]
fn real_js() {
    let js = Format::compile(JS, Escape::Json).unwrap();
    insta::assert_snapshot!(summary("nginx-access-json.log", |l| js.parse(l)));
}
#[test]
fn real_sp() {
    let sp = Format::compile(SP, Escape::Default).unwrap();
    insta::assert_snapshot!(summary("nginx-access-spaces.log", |l| sp.parse(l)));
}
#[test]
fn real_guess() {
    insta::assert_snapshot!(summary("nginx-access-combined.log", |l| Format::guess().parse(l)));
}
#[test]
fn real_guess_js() {
    insta::assert_snapshot!(summary("nginx-access-json.log", |l| Format::guess().parse(l)));
}
