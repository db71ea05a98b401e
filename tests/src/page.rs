//! An HTML page in a real browser: what becomes of it, what it asks for, and what it complains about.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process::Process;

/// The browser.
pub const CHROMIUM: &str = "/usr/bin/chromium";

/// Looks into a page from a frame around it, and leaves what it found in its own text. Its own log is `found`.
const FRAME: &str = "<!doctype html><title>frame</title><body><script>
addEventListener('load', () => {
  const page = document.querySelector('iframe').contentDocument, root = page.documentElement;
  const names = new Set(Array.from(page.querySelectorAll('*'), it => it.localName));
  const handlers = Array.from(page.querySelectorAll('*')).flatMap(it => it.getAttributeNames())
    .filter(name => name.startsWith('on'));
  const found = { scripts: page.scripts.length, elements: [...names], handlers, text: page.body.innerText,
    width: root.scrollWidth, title: page.title };
  const told = document.createElement('pre');
  told.textContent = 'FOUND' + btoa(unescape(encodeURIComponent(JSON.stringify(found)))) + 'END';
  document.body.append(told);
});
</script><iframe style='width:WIDTHpx;height:900px;border:0' src='PAGE'></iframe>";

/// What became of a page.
#[derive(Debug)]
pub struct Opened {
    /// Scripts in it.
    pub scripts: u64,
    /// Names of the elements in it.
    pub elements: BTreeSet<String>,
    /// Attributes that run something.
    pub handlers: Vec<String>,
    /// Its title.
    pub title: String,
    /// Its text, as it is shown.
    pub text: String,
    /// How wide it is, in pixels: more than the frame where it must be scrolled sideways.
    pub width: u64,
    /// What it complained about.
    pub console: Vec<String>,
    /// Addresses that it asked for. Those that the browser asks for by itself are not among them.
    pub requests: Vec<String>,
}

/// Opens a page in a frame of this width. Files that this takes are left in `directory`, where the page is.
///
/// # Errors
/// The browser doesn't run, or says nothing of the page.
pub fn open(page: &Path, width: u32, directory: &Path) -> Result<Opened> {
    let name = page.file_name().context("no file")?.to_string_lossy();
    let (frame, log) = (directory.join("frame.html"), directory.join("net.json"));
    let html = FRAME.replace("WIDTH", &width.to_string()).replace("PAGE", &name);
    fs::write(&frame, html)?;
    let mut chromium = Command::new(CHROMIUM);
    chromium
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--host-resolver-rules=MAP * ~NOTFOUND", "--allow-file-access-from-files"])
        .args(["--enable-logging=stderr", "--net-log-capture-mode=Everything", "--dump-dom"])
        .arg(format!("--log-net-log={}", log.display()))
        .arg(format!("--user-data-dir={}", directory.join("profile").display()))
        .arg(format!("file://{}", frame.display()));
    let end = Process::start(&mut chromium)?.finish()?;
    ensure!(end.code == Some(0), "chromium: {:?} {}", end.code, end.stderr);
    let told = end.stdout.split_once(">FOUND").and_then(|(_, rest)| rest.split_once("END"));
    let (told, _) = told.with_context(|| format!("no page: {} {}", end.stdout, end.stderr))?;
    let found: Value = serde_json::from_slice(&from_base64(told)?)?;
    let list = |name: &str| -> Vec<String> {
        let list = found[name].as_array().into_iter().flatten();
        list.filter_map(|it| it.as_str().map(str::to_owned)).collect()
    };
    let console = end.stderr.lines().filter(|line| line.contains(":CONSOLE:"));
    Ok(Opened {
        scripts: found["scripts"].as_u64().context("scripts")?,
        elements: list("elements").into_iter().collect(),
        handlers: list("handlers"),
        title: found["title"].as_str().unwrap_or_default().to_owned(),
        text: found["text"].as_str().unwrap_or_default().to_owned(),
        width: found["width"].as_u64().context("width")?,
        console: console.map(str::to_owned).collect(),
        requests: requests(&log)?,
    })
}

/// What a page asked for: its requests have an origin, those of the browser itself don't.
fn requests(log: &Path) -> Result<Vec<String>> {
    let log: Value = serde_json::from_slice(&fs::read(log)?).context("the log of requests")?;
    let events = log["events"].as_array().context("no events in the log of requests")?;
    ensure!(!events.is_empty(), "the log of requests is empty");
    let asked = events
        .iter()
        .map(|event| &event["params"])
        .filter(|params| params["initiator"].as_str().is_some_and(|from| from != "not an origin"));
    Ok(asked.filter_map(|params| params["url"].as_str().map(str::to_owned)).collect())
}

fn from_base64(text: &str) -> Result<Vec<u8>> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for digit in text.bytes().filter(|digit| *digit != b'=') {
        let value = DIGITS.iter().position(|it| *it == digit).context("no base64")?;
        bits = bits << 6 | u32::try_from(value)?;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff)?);
        }
    }
    Ok(bytes)
}
