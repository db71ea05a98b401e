//! The page of a report in a real browser.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use socklife_tests::{
    page::open,
    socklife::{last_line, socklife},
};

use crate::{Need, Test};

/// A capture of real incidents.
const CAPTURE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../tracer/fixtures/incidents-v1.socklife");
/// As wide as a desk's screen, and as a phone's.
const WIDTHS: [u32; 2] = [1280, 400];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("report::page", &[Need::Chromium], page),
        Test::new("report::a_bad_page_is_noticed", &[Need::Chromium], a_bad_page_is_noticed),
    ]
}

/// It shows what is in the capture, asks for nothing, and what the file is called is only text.
fn page() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let name = "<script>alert(1)<img src=x onerror=alert(2)>.socklife";
    let capture = directory.path().join(name);
    fs::copy(CAPTURE, &capture)?;
    let page = directory.path().join("page.html");
    let (capture, log) = (capture.to_string_lossy(), log_of(&capture, directory.path())?);
    let report = ["report", &capture, "-o", &page.to_string_lossy()];
    let logs = ["--nginx-error-log", &log, "--log-time-zone", "UTC"];
    let end = socklife(&[report, logs].concat())?;
    ensure!(end.code == Some(0), "{:?} {}", end.code, end.stderr);
    let size = fs::metadata(&page)?.len();
    println!("the page has {size} bytes");
    ensure!(size < 500_000, "{size} bytes");
    for width in WIDTHS {
        let opened = open(&page, width, directory.path())?;
        ensure!(opened.scripts == 0 && opened.handlers.is_empty(), "{opened:?}");
        for bad in ["script", "img", "iframe", "object", "form", "base"] {
            ensure!(!opened.elements.contains(bad), "<{bad}> in {:?}", opened.elements);
        }
        ensure!(opened.elements.contains("svg"), "no picture: {:?}", opened.elements);
        ensure!(opened.console.is_empty(), "{:?}", opened.console);
        ensure!(opened.requests.is_empty(), "{:?}", opened.requests);
        ensure!(opened.width <= width.into(), "{} pixels wide in {width}", opened.width);
        for said in [name, "port-range-exhausted", "process-file-limit", "EADDRNOTAVAIL", "UTC"] {
            ensure!(opened.text.contains(said), "{said}: {}", opened.text);
        }
        for said in ["Failed answers of proxies", "<img src=x onerror=alert(3)>", "1 failed tries"]
        {
            ensure!(opened.text.contains(said), "{said}: {}", opened.text);
        }
    }
    Ok(())
}

/// An error log of Nginx with a line of the capture's time, whose upstream is hostile.
fn log_of(capture: &Path, directory: &Path) -> Result<String> {
    let end = socklife(&["report", "--format=json", &capture.to_string_lossy()])?;
    let begun = last_line(&end.stdout)?["start"].as_str().context("no start")?.to_owned();
    let time = begun.get(..19).context("a short time")?.replace('-', "/").replace('T', " ");
    let line = format!(
        "{time} [error] 7#7: *1 connect() to <img src=x onerror=alert(3)> failed (111: Connection refused) while \
         connecting to upstream, client: 10.0.0.1, server: , request: \"GET / HTTP/1.1\", host: \"a\"\n"
    );
    let log = directory.join("error.log");
    fs::write(&log, line)?;
    Ok(log.display().to_string())
}

/// What the test above asserts would be seen if it were otherwise.
fn a_bad_page_is_noticed() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let page: &Path = &directory.path().join("page.html");
    let html = "<!doctype html><title>bad</title><body onclick='a()'><p>\u{e4}</p>\
                <img src='https://example.invalid/a.png'><p style='width:900px'>wide</p>\
                <script>console.error('as expected')</script>";
    fs::write(page, html)?;
    let opened = open(page, 400, directory.path())?;
    ensure!(opened.scripts == 1 && opened.handlers == ["onclick"], "{opened:?}");
    ensure!(opened.elements.contains("img") && opened.title == "bad", "{opened:?}");
    ensure!(opened.console.iter().any(|line| line.contains("as expected")), "{opened:?}");
    ensure!(opened.requests.iter().any(|it| it.contains("example.invalid")), "{opened:?}");
    ensure!(opened.width > 400, "{opened:?}");
    Ok(())
}
