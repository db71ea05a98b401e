//! Pages of reports made by hand: what is in them, and that foreign text in them is only text.

mod answers;
mod build;
mod contrast;

use super::page;
use crate::report::Report;

/// Names of all elements, in order.
fn elements(page: &str) -> Vec<&str> {
    let opened =
        page.split('<').skip(1).filter(|it| it.starts_with(|c: char| c.is_ascii_alphabetic()));
    opened.map(|it| it.split([' ', '>', '/']).next().unwrap_or_default()).collect()
}

/// The text of a page, without its elements.
fn text(page: &str) -> String {
    let body = &page[page.find("<body").unwrap()..];
    let pieces = body.split('<').filter_map(|piece| piece.split_once('>'));
    pieces.map(|(_, text)| text).filter(|it| !it.trim().is_empty()).collect::<Vec<_>>().join("\n")
}

fn variants() -> [(&'static str, Vec<Report>); 8] {
    [
        ("full", vec![build::full()]),
        ("lossy", vec![build::lossy()]),
        ("hostile", vec![build::hostile()]),
        ("absurd", vec![build::absurd()]),
        ("busy", vec![build::busy()]),
        ("empty", vec![Report::default()]),
        ("several", vec![build::full(), build::lossy(), Report::default(), build::hostile()]),
        ("none", Vec::new()),
    ]
}

#[test]
fn a_page_says_what_failed_when_and_why() {
    let text = text(&page(&[build::full()]));
    for said in [
        "socklife report: proxy-3",
        "2026-03-01 14:05:09 UTC",
        "14:05:14 to 14:05:23 UTC",
        "no free local port (28,231 of 28,232 used",
        "9.0 s, up to 458 failures/s",
        "keep connections to the upstream open (keepalive)",
        "EADDRNOTAVAIL",
        "And 12 more upstreams.",
        "net.ipv4.tcp_tw_reuse",
        "socklife record -o incident.socklife --ring-size 16M",
        "tp_btf/inet_sock_set_state",
        "no free local port was left toward this upstream",
        "failed answers 3,432, explained 3,431 (99.9 %), unexplained 1; 12,400 others.",
        "120 lines of the logs are of another time than the recording",
    ] {
        assert!(text.contains(said), "{said}\n{text}");
    }
    assert!(!text.contains("Not everything is here"), "{text}");
}

#[test]
fn what_is_missing_is_said_first() {
    let text = text(&page(&[build::lossy()]));
    let banner = text.find("Not everything is here").unwrap();
    assert!(banner < text.find("nginx[812] and 3 more").unwrap());
    for said in [
        "Counts are lower bounds.",
        "The recording was cut off: what came after 14:05:39 UTC is not in it.",
        "damaged at 3 places: 740 events are known to be missing.",
        "1,234 events lost: the ring was full",
        "a frame's checksum is wrong",
        "And 2 more places.",
        "events were lost: there may be more failures",
        " or more failures: ",
    ] {
        assert!(text.contains(said), "{said}\n{text}");
    }
}

#[test]
fn foreign_text_is_only_text() {
    let page = page(&[build::hostile(), build::hostile()]);
    let known = [
        "html",
        "head",
        "meta",
        "link",
        "title",
        "style",
        "body",
        "a",
        "svg",
        "defs",
        "pattern",
        "rect",
        "path",
        "desc",
        "header",
        "h1",
        "h2",
        "h3",
        "h4",
        "nav",
        "ul",
        "li",
        "main",
        "section",
        "aside",
        "p",
        "strong",
        "em",
        "details",
        "summary",
        "article",
        "span",
        "time",
        "code",
        "figure",
        "figcaption",
        "div",
        "table",
        "caption",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "dl",
        "dt",
        "dd",
        "br",
        "footer",
    ];
    for element in elements(&page) {
        assert!(known.contains(&element), "<{element}>");
    }
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;"));
    for unsafe_one in ['\u{202e}', '\u{1b}', '\u{7}'] {
        assert!(!page.contains(unsafe_one), "{unsafe_one:?}");
    }
    assert!(page.contains("\\u{202e}txt.\\u{1b}[31m\\u{7}"));
    // Addresses are only those of the page's own parts.
    for attribute in [" href=\"", " src=\"", " action=\""] {
        for value in page.split(attribute).skip(1) {
            assert!(
                value.starts_with('#') || value.starts_with("data:,\""),
                "{attribute}{value:.40}"
            );
        }
    }
    for (tag, _) in page.split('<').filter_map(|it| it.split_once('>')) {
        let names = tag.split('"').step_by(2).collect::<String>();
        assert!(!names.contains(" on") && !names.contains('\''), "<{tag}>");
    }
}

#[test]
fn text_that_is_visible_already_stays_as_it_is() {
    let (long, name) = ("a".repeat(3000), crate::event::visible("\u{202e}ä\\".as_bytes()));
    assert_eq!(super::words::inert(&name), name);
    assert_eq!(super::words::inert(&long).len(), 2000 + "... (1,000 more characters)".len());
}

#[test]
fn pages_of_all_kinds_are_sound() {
    for (name, reports) in variants() {
        let page = page(&reports);
        if let Some(to) = std::env::var_os("SOCKLIFE_PAGES") {
            std::fs::write(std::path::Path::new(&to).join(name).with_extension("html"), &page)
                .unwrap();
        }
        let svg = page.split(" d=\"").skip(1).map(|it| it.split('"').next().unwrap());
        for path in svg {
            assert!(path.chars().all(|c| "MLHVZhv. -0123456789".contains(c)), "{name}: {path}");
        }
        let mut ids: Vec<_> =
            page.split(" id=\"").skip(1).map(|it| it.split('"').next().unwrap()).collect();
        for wanted in page.split(" href=\"#").skip(1).chain(page.split("url(#").skip(1)) {
            let wanted = wanted.split(['"', ')']).next().unwrap();
            assert!(ids.contains(&wanted), "{name}: #{wanted}");
        }
        for wanted in page.split("labelledby=\"").skip(1) {
            for wanted in wanted.split('"').next().unwrap().split(' ') {
                assert!(ids.contains(&wanted), "{name}: #{wanted}");
            }
        }
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "{name}: an id is there twice");
        let levels =
            elements(&page).into_iter().filter_map(|it| it.strip_prefix('h')?.parse::<u8>().ok());
        let levels: Vec<_> = levels.collect();
        assert!(levels[1..].iter().all(|level| *level > 1), "{name}: {levels:?}");
        let in_order = levels.windows(2).all(|pair| pair[1] <= pair[0] + 1);
        assert!(in_order && levels[0] == 1, "{name}: {levels:?}");
        let pictures = page.matches("role=\"img\"").count();
        assert_eq!(pictures, page.matches("<table class=\"figures\">").count(), "{name}");
        assert_eq!(
            page.matches("<th").count() - page.matches("<thead").count(),
            page.matches(" scope=\"").count()
        );
    }
}

#[test]
fn a_page_is_small() {
    let usual = page(&[build::full()]).len();
    assert!(usual < 150_000, "{usual} bytes");
    let busy = page(&[build::busy()]).len();
    assert!(busy < 700_000, "{busy} bytes");
}

#[test]
fn of_several_hosts_an_overview_goes_first() {
    let text = text(&page(&[build::full(), build::lossy()]));
    let start = text.find("Overview").unwrap();
    let overview = &text[start..text[start..].find("What failed, when and why").unwrap() + start];
    assert!(
        overview.contains("proxy-3")
            && overview.contains("ephemeral-ports 10.0.0.5 to 10.0.0.9:9001"),
        "{overview}"
    );
    assert!(overview.contains("The recording was cut off"), "{overview}");
    assert_eq!(text.matches("What failed, when and why").count(), 4, "headings and links");
}

/// A capture of real incidents: ports, then open files.
#[test]
fn the_page_of_a_real_capture_is_small_and_says_what_failed() {
    let capture = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/incidents-v1.socklife");
    let report = crate::report::fold::of(std::path::Path::new(capture)).unwrap();
    let page = page(&[report]);
    if let Some(to) = std::env::var_os("SOCKLIFE_PAGES") {
        std::fs::write(std::path::Path::new(&to).join("real.html"), &page).unwrap();
    }
    assert!(page.len() < 500_000, "{} bytes", page.len());
    let text = text(&page);
    for said in
        ["32,534 events", "port-range-exhausted", "process-file-limit", "EADDRNOTAVAIL", "EMFILE"]
    {
        assert!(text.contains(said), "{said}\n{text}");
    }
}
