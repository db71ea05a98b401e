//! A picture of the live view for documents: a real terminal's screen as SVG.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anstyle_svg::Term;
use anyhow::{Context, Result, bail};
use socklife_tests::{net::Link, socklife_binary, tmux::Terminal};

use crate::{
    inbox::{Inbox, Word},
    incident::Incident,
    staged::{Ready, Staged},
};

/// What fits beside text.
const SIZE: (u16, u16) = (100, 30);
/// So long the incident lasts before the picture, for the trends.
const COURSE: Duration = Duration::from_secs(12);

/// Stages an incident, and draws what the live view then shows.
pub(crate) fn draw(into: &Path, incident: Incident) -> Result<()> {
    let inbox = Inbox::open(false)?;
    let link = Link::new()?;
    let home = tempfile::tempdir()?;
    let terminal = Terminal::open(SIZE, home.path(), &[("COLORTERM", "truecolor")])?;
    let socklife = socklife_binary().canonicalize().context("socklife is not built")?;
    let (near, far) = (link.near.path(), link.far.path());
    let socklife = socklife.to_string_lossy();
    terminal.run(&[&socklife, "top", "--netns", &near, "--netns", &far])?;
    terminal.wait("the live view", |screen| screen.contains("Overview"))?;
    let plan = incident.plan(20);
    let mut staged = match Staged::begin(&link, &plan)? {
        Ok(staged) => staged,
        Err(why) => bail!("it can't be staged here: {why}"),
    };
    loop {
        match staged.ready()? {
            Ready::Yes => break,
            Ready::Never(why) => bail!("it can't be staged here: {why}"),
            Ready::NotYet => pause(&inbox, Duration::from_millis(20))?,
        }
    }
    staged.load()?;
    let begun = Instant::now();
    let shows = |screen: &str| screen.contains("CRITICAL") || screen.contains("full in");
    terminal.wait("the incident on the screen", shows)?;
    pause(&inbox, COURSE.saturating_sub(begun.elapsed()))?;
    let screen = terminal.styled()?;
    terminal.keys(&["q"])?;
    terminal.shell("true")?;
    staged.end()?;
    let lines: Vec<&str> = screen.lines().map(str::trim_end).collect();
    let picture = Term::new().render_svg(&lines.join("\n"));
    fs::write(into, picture).with_context(|| into.display().to_string())
}

fn pause(inbox: &Inbox, time: Duration) -> Result<()> {
    match inbox.within(time) {
        Some(Word::End) => bail!("interrupted"),
        _ => Ok(()),
    }
}
