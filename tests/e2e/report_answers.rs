//! Failed answers afterwards: what the report makes of a capture and logs, beside what `count` said live, and what Nginx
//! itself has in its logs.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use socklife_tests::{
    net::{FAR4, Link, NEAR4},
    nginx::{Logs, Nginx},
    process::run,
    socklife::{Socklife, last_line, socklife},
    socklife_binary, wait_for,
};

use crate::{Need, Test, answers::settled, record::Room};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Namespaces, Need::Nginx];
    vec![
        Test::new("report::answers", &needs, answers),
        Test::new("report::answers_of_one_capture", &[], of_one_capture),
    ]
}

fn requests(link: &Link, nginx: &Nginx) -> Result<()> {
    let target = format!("http://{NEAR4}:{}/", Nginx::PORT);
    run(link.far.command("wrk").args(["-t", "1", "-c", "128", "-d", "1s", &target]))?;
    settled(|| nginx.logs()).map(drop)
}

/// Logs and a capture tell no less than a second: what comes next is of a later one.
pub(crate) fn next_second() -> Result<()> {
    let begun = Timestamp::now().as_second();
    wait_for("the next second", || Ok((Timestamp::now().as_second() > begun).then_some(())))
}

/// Lines of the error log, and answers.
fn lines(logs: &Logs) -> u64 {
    let errors: u64 = logs.errors.values().flat_map(|by| by.values()).sum();
    errors + logs.statuses.values().sum::<u64>()
}

/// Ports run out, then nobody listens any more. Before and after the recording the same happens; the report has
/// what `count` saw live, and that is what Nginx has in its logs of that time.
fn answers() -> Result<()> {
    let (link, room) = (Link::new()?, Room::new()?);
    link.near.sysctl("net.ipv4.ip_local_port_range", "40000 40063")?;
    let upstream = format!("{FAR4}:9001");
    let nginx = Nginx::start(&link.near, &upstream, "", "")?;
    // Refused.
    requests(&link, &nginx)?;
    let before = nginx.logs()?;
    let listening = link.far.serve("hold", &[upstream.parse()?])?;
    next_second()?;

    let path = link.near.path();
    let (error, access) = (nginx.error_log(), nginx.access_log());
    let (error, access) = (error.display().to_string(), access.display().to_string());
    let logs = ["--nginx-error-log", &error, "--nginx-access-log", &access, "--nginx-log-format"];
    let logs = [&logs[..], &[Nginx::LOG_FORMAT]].concat();
    let capture = room.text("capture");
    let recording = Socklife::start(&["record", "--netns", &path, "-o", &capture])?;
    let counting =
        Socklife::start(&[&["count", "--format=json", "--netns", &path], &logs[..]].concat())?;
    requests(&link, &nginx)?;
    drop(listening);
    requests(&link, &nginx)?;
    let counted = last_line(&counting.interrupt()?.stdout)?;
    let recorded = recording.interrupt()?;
    ensure!(recorded.code == Some(0), "{recorded:?}");
    let during = nginx.logs()?;
    next_second()?;
    requests(&link, &nginx)?;
    let after = nginx.logs()?;

    // Where it is read another zone is in force.
    let mut report = Command::new(socklife_binary());
    report.env("TZ", "JST-9").args(["report", "--format=json", &capture]).args(&logs);
    let read = last_line(&run(&mut report)?)?;
    let (live, found) = (&counted["answers"], &read["answers"]);
    println!("{live:#}\n{found:#}");
    ensure!(counted["lost"] == 0 && read["lost"] == 0, "lost: {counted} {read}");
    ensure!(live["upstreams"] == found["upstreams"], "live: {live:#}\nafterwards: {found:#}");
    for key in ["failed", "explained", "unexplained", "succeeded", "lines_unknown", "share"] {
        ensure!(live[key] == found[key], "{key}: {} and {}", live[key], found[key]);
    }

    let of = |logs: &Logs, status| logs.statuses.get(&status).copied().unwrap_or(0);
    let failed = of(&during, 502) - of(&before, 502);
    ensure!(failed > 100 && of(&before, 502) > 100, "the load made few 502s: {during:?}");
    ensure!(found["failed"] == failed, "Nginx answered 502 {failed} times: {found:#}");
    ensure!(found["explained"] == failed, "not all are explained: {found:#}");
    for (class, errno) in [("ports-exhausted", 99), ("refused", 111)] {
        let of_log = during.with(errno) - before.with(errno);
        let by = found["upstreams"][0]["by"].as_array().context("by")?;
        let by = by.iter().find(|by| by["class"] == class).context(class)?;
        ensure!(of_log > 10 && by["lines"] == of_log, "{of_log} lines of {errno}: {by}");
        ensure!(by["answers"] == of_log, "of {of_log}: {by}");
    }
    let outside = lines(&before) + lines(&after) - lines(&during);
    ensure!(lines(&after) > lines(&during) && lines(&before) > 0, "nothing is outside");
    ensure!(found["lines_outside"] == outside, "{outside} are outside: {found:#}");
    page(&capture, &logs, failed)
}

/// The page and the text have it, too; with the wrong zone they say so.
fn page(capture: &str, logs: &[&str], failed: u64) -> Result<()> {
    let printed = |more: &[&str]| {
        let end = socklife(&[&["report", capture], logs, more].concat())?;
        ensure!(end.code == Some(0), "{end:?}");
        Ok(end.stdout)
    };
    let (page, text) = (printed(&["--format=html"])?, printed(&[])?);
    for said in ["Failed answers of proxies", "ports-exhausted", "refused", "In the kernel"] {
        ensure!(page.contains(said), "{said}: {page}");
    }
    ensure!(text.contains("failed answers of proxies") && text.contains("100.0 %"), "{text}");
    let wrong = last_line(&printed(&["--format=json", "--log-time-zone=+05:30"])?)?;
    let wrong = &wrong["answers"];
    ensure!(wrong["failed"] == failed && wrong["explained"] == 0, "{wrong:#}");
    ensure!(wrong["logs"][0]["lines"] == 0, "{wrong:#}");
    let text = printed(&["--log-time-zone=+05:30"])?;
    ensure!(text.contains("--log-time-zone says another"), "{text}");
    Ok(())
}

/// Logs of one host say nothing of another: a wrong command line, before anything is read.
fn of_one_capture() -> Result<()> {
    let end = socklife(&["report", "a", "b", "--nginx-error-log", "/no/such/file"])?;
    ensure!(end.code == Some(2) && end.stderr.contains("logs go with one capture"), "{end:?}");
    let end = socklife(&["report", "a", "--log-time-zone", "UTC"])?;
    ensure!(end.code == Some(2) && end.stderr.contains("needs a log"), "{end:?}");
    let end =
        socklife(&["report", "a", "--envoy-access-log", "b", "--log-time-zone", "Mars/Base"])?;
    ensure!(end.code == Some(2) && end.stderr.contains("Europe/Berlin"), "{end:?}");
    Ok(())
}
