//! Any bytes: lines of every proxy's log are read or refused. The first byte says whose log it is.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use socklife::logs::{
    Kind,
    nginx_access::{Escape, Format},
};

static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    let formats = [
        (r#"$remote_addr [$time_local] "$request" $status u="$upstream_addr" $upstream_status"#, Escape::Default),
        ("$msec $http_a $status $upstream_addr $upstream_status $http_b", Escape::Default),
        (r#"{"s":"$status","u":"$upstream_addr","r":"$request","v":"$upstream_status"}"#, Escape::Json),
        ("$http_a $upstream_addr $status|$time_iso8601 $http_b", Escape::None),
    ];
    let formats = formats.map(|(text, escape)| Format::compile(text, escape).expect("a format"));
    [Kind::NginxError, Kind::HaProxy, Kind::Envoy, Kind::NginxAccess(Format::guess())]
        .into_iter()
        .chain(formats.map(Kind::NginxAccess))
        .collect()
});

fuzz_target!(|bytes: &[u8]| {
    let Some((first, lines)) = bytes.split_first() else { return };
    let kind = &KINDS[usize::from(*first) % KINDS.len()];
    for line in lines.split(|byte| *byte == b'\n') {
        let _ = kind.parse(line, &jiff::tz::TimeZone::UTC);
    }
    // A format may be hostile too: it comes from a container's configuration.
    if let Ok(format) = Format::compile(&String::from_utf8_lossy(lines), Escape::Default) {
        let _ = format.parse(lines);
    }
});
