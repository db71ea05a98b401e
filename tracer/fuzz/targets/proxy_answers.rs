//! Any bytes: what proxies answer, and what leads to where they do, is read or refused. The first byte says as what.

#![no_main]

use std::{ffi::OsString, os::unix::ffi::OsStringExt};

use libfuzzer_sys::fuzz_target;
use socklife::proxies::{
    endpoint::Endpoint,
    envoy::{self, Answers, http},
    haproxy,
};

fuzz_target!(|bytes: &[u8]| {
    let Some((&kind, bytes)) = bytes.split_first() else { return };
    let sound = || b"{}".to_vec();
    let mut answers = Answers {
        clusters: sound(),
        listeners: sound(),
        stats: sound(),
        runtime: sound(),
        bootstrap: sound(),
    };
    match kind % 12 {
        0 => drop(haproxy::parse(bytes)),
        1 => drop(haproxy::sockets(bytes)),
        2 => drop((haproxy::configured(&words(bytes)), envoy::configured(&words(bytes)))),
        3 => drop(std::str::from_utf8(bytes).map(str::parse::<Endpoint>)),
        4 => drop(http::body(bytes)),
        5 => drop(envoy::admin_of(bytes, false)),
        6 => drop(envoy::admin_of(bytes, true)),
        7 => answers.clusters = bytes.to_vec(),
        8 => answers.listeners = bytes.to_vec(),
        9 => answers.stats = bytes.to_vec(),
        10 => answers.runtime = bytes.to_vec(),
        _ => answers.bootstrap = bytes.to_vec(),
    }
    drop(envoy::parse(&answers));
});

fn words(bytes: &[u8]) -> Vec<OsString> {
    bytes.split(|&byte| byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect()
}
