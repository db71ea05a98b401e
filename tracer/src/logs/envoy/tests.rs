use super::*;
use crate::logs::tests::{summary, words};

fn say(line: &str) -> String {
    words(&parse(line.as_bytes()))
}

/// 20 and 24 have a client's header that looks like the fields, or is taken for the path.
#[test]
fn real_lines() {
    insta::assert_snapshot!(summary("envoy.log", parse));
}

#[test]
fn real_lines_in_the_format_of_istio() {
    insta::assert_snapshot!(summary("envoy-istio.log", parse));
}

#[test]
fn real_lines_in_json() {
    insta::assert_snapshot!(summary("envoy-json.log", parse));
}

#[test]
fn when_it_was_done() {
    let line = br#"[2026-11-25T12:26:42.688Z] "GET / HTTP/1.1" 503 UF 0 91 497 - "-" "-" "x" "x" "10.9.9.9:80""#;
    let Parsed::Entry(Entry::Answer(answer)) = parse(line) else { panic!() };
    assert_eq!(answer.at, Some("2026-11-25T12:26:43.185Z".parse().unwrap()));
    assert_eq!(answer.tries[0].address, Some("10.9.9.9:80".parse().unwrap()));
}

/// Details as measured, and as other versions have them.
#[test]
fn details_tell_more() {
    let line = |flags: &str, details: &str, reason: &str| {
        say(&format!(
            r#"[2026-11-25T12:26:42.688Z] "GET / HTTP/1.1" 503 {flags} {details} - "{reason}" 0 91 4 - "-" "-" "x" "x" "10.9.9.9:80" outbound|80||app - 1.1.1.1:1 2.2.2.2:2 - default"#
        ))
    };
    for (flags, details, reason, wanted) in [
        (
            "UF",
            "upstream_reset_before_response_started{remote_connection_failure|immediate_connect_error:_Cannot_assign_requested_address|remote_address:127.0.0.1:9100}",
            "-",
            "PortsExhausted",
        ),
        (
            "UF",
            "upstream_reset_before_response_started{remote_connection_failure,immediate_connect_error:_99}",
            "-",
            "PortsExhausted",
        ),
        (
            "UF",
            "upstream_reset_before_response_started{local_connection_failure|socket_creation_failure}",
            "socket_creation_failure",
            "OpenFiles",
        ),
        ("UF", "upstream_reset_before_response_started{connection_timeout}", "-", "ConnectTimeout"),
        (
            "URX,UF",
            "upstream_reset_before_response_started{connection_failure}",
            "delayed connect error: 111",
            "Refused",
        ),
        (
            "UF,URX",
            "upstream_reset_before_response_started{x}",
            "immediate connect error: Network is unreachable",
            "Unreachable",
        ),
        (
            "UC",
            "upstream_reset_before_response_started{connection_termination}",
            "Connection reset by peer",
            "Reset",
        ),
        (
            "UF",
            "upstream_reset_before_response_started{local_connection_failure}",
            "failed_to_bind_to_10.0.0.1:0:_Address_already_in_use",
            "PortsExhausted",
        ),
        ("UpstreamOverflow", "overflow", "-", "OwnLimit"),
        ("UpstreamRetryLimitExceeded,UpstreamConnectionFailure", "x", "-", "Connect"),
        ("UH", "no_healthy_upstream", "-", "NoServer"),
        ("UR", "x", "-", "Reset"),
        ("NC", "cluster_not_found", "-", "Other"),
        ("URX", "via_upstream", "-", "Other"),
    ] {
        assert_eq!(
            line(flags, details, reason),
            format!("503 {wanted} +0 10.9.9.9:80=503"),
            "{flags} {details} {reason}"
        );
    }
    assert_eq!(line("DC", "downstream_remote_disconnect", "-"), "503 - +0 10.9.9.9:80=503");
    let json = |rest: &str| {
        say(&format!(
            r#"{{"response_code":503,"response_flags":"UO","upstream_cluster":"app"{rest}}}"#
        ))
    };
    assert_eq!(json(""), "503 OwnLimit +0 app=503");
    assert_eq!(json(r#","response_code":200"#), "unknown");
    assert_eq!(say(r#"{"status":503}"#), "unknown");
}

#[test]
fn json_without_flags_says_what_it_lacks() {
    let answer = |json: &str| match parse(json.as_bytes()) {
        Parsed::Entry(Entry::Answer(answer)) => (answer.class, answer.lacks),
        other => panic!("{other:?}"),
    };
    let lacks = (Some(Class::Other), Some("response_flags"));
    assert_eq!(answer(r#"{"response_code":503,"upstream_host":"10.0.0.9:80"}"#), lacks);
    assert_eq!(answer(r#"{"response_code":200}"#), (None, None));
    assert_eq!(answer(r#"{"response_code":503,"response_flags":"-"}"#), (None, None));
    let details = |details: &str| {
        answer(&format!(r#"{{"response_code":503,"response_code_details":"{details}"}}"#))
    };
    assert_eq!(details("via_upstream"), (None, None));
    let refused =
        "upstream_reset_before_response_started{delayed_connect_error:_Connection_refused}";
    assert_eq!(details(refused), (Some(Class::Refused), None));
    assert_eq!(details("no_healthy_upstream"), lacks);
}
