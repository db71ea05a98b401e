//! The live view in a real terminal, and what can be read off its screen.

use std::{os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use socklife_tests::{net::Link, socklife_binary, tmux::Terminal};
use tempfile::TempDir;

use crate::{
    Need, Test,
    styles::{Style, cells},
};

/// A terminal in which nothing is cut off.
pub(crate) const LARGE: (u16, u16) = (200, 50);

/// The panes, by the key that opens each.
pub(crate) const PANES: [(&str, &str); 5] =
    [("1", "Overview"), ("2", "Upstreams"), ("3", "Processes"), ("4", "Events"), ("5", "Kernel")];

/// Where nothing listens: the ports of canaries.
const CANARY: &str = "10.77.0.2:9199";

/// A live view.
pub(crate) struct View {
    pub(crate) terminal: Terminal,
    /// Where it runs.
    pub(crate) directory: TempDir,
}

impl View {
    /// Runs `socklife ARGUMENTS` and waits until its panes are there.
    pub(crate) fn open(
        size: (u16, u16),
        environment: &[(&str, &str)],
        arguments: &[&str],
    ) -> Result<Self> {
        let view = Self::shell(size, environment)?;
        view.start(arguments)?;
        Ok(view)
    }

    /// The terminal, with nothing running in it.
    pub(crate) fn shell(size: (u16, u16), environment: &[(&str, &str)]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        // For who is not root, too.
        let everybody = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.path(), everybody)?;
        let terminal = Terminal::open(size, directory.path(), environment)?;
        Ok(Self { terminal, directory })
    }

    /// The program, where anybody may run it.
    pub(crate) fn program(&self) -> Result<PathBuf> {
        let copy = self.directory.path().join("socklife");
        if !copy.exists() {
            std::fs::copy(socklife_binary(), &copy).context("socklife")?;
        }
        Ok(copy)
    }

    /// Types the command, and waits until its panes are there.
    pub(crate) fn start(&self, arguments: &[&str]) -> Result<()> {
        let program = socklife_binary().canonicalize().context("socklife")?;
        let program = program.to_string_lossy();
        self.terminal.run(&[&[&*program], arguments].concat())?;
        self.shown()
    }

    /// Waits until its panes are there.
    pub(crate) fn shown(&self) -> Result<()> {
        self.terminal.program()?;
        self.terminal.wait("the live view", |screen| screen.contains("Overview"))?;
        self.terminal
            .wait_for("the alternate screen", || Ok(self.terminal.modes()?.alternate.then_some(())))
    }

    /// The view of two hosts, which sees what happens there.
    pub(crate) fn of(link: &Link, size: (u16, u16), environment: &[(&str, &str)]) -> Result<Self> {
        let (near, far) = (link.near.path(), link.far.path());
        let view = Self::open(size, environment, &["top", "--netns", &near, "--netns", &far])?;
        view.watches(link)?;
        Ok(view)
    }

    /// Waits until it sees failures: until one that is made for this is shown.
    pub(crate) fn watches(&self, link: &Link) -> Result<()> {
        self.pane("Upstreams")?;
        self.terminal.wait_for("a failure that is made to be seen", || {
            link.near.fail(&["plain", "--to", CANARY])?;
            // It has no sockets: there is a row only of failures.
            Ok(row(&self.terminal.screen()?, CANARY).map(drop))
        })?;
        self.pane("Overview")
    }

    /// Opens a pane.
    pub(crate) fn pane(&self, name: &str) -> Result<()> {
        let key = PANES.iter().find(|(_, pane)| *pane == name).context("no such pane")?.0;
        self.terminal.keys(&[key])?;
        self.terminal.wait_for(&format!("the pane {name}"), || {
            Ok((active(&self.terminal.styled()?).as_deref() == Some(name)).then_some(()))
        })
    }

    /// Waits for a row with a name, and with all these words.
    pub(crate) fn row(&self, name: &str, wanted: &[String]) -> Result<String> {
        let has = |row: &&str| {
            let there = words(row);
            wanted.iter().all(|word| there.contains(&word.as_str()))
        };
        let find = |screen: &str| row(screen, name).filter(has).map(str::to_owned);
        let what = format!("{name} with {wanted:?}");
        let screen = self.terminal.wait(&what, |screen| find(screen).is_some())?;
        find(&screen).context("the row is gone")
    }

    /// Files that it has written into its directory, by the end of their name.
    pub(crate) fn files(&self, end: &str) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self.directory.path())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("socklife-") && name.ends_with(end) {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }

    /// Ends it, and the shell takes commands again.
    pub(crate) fn quit(&self) -> Result<()> {
        self.terminal.keys(&["q"])?;
        let code = self.terminal.shell("echo $ended")?;
        ensure!(code == "0", "exit code {code}");
        Ok(())
    }
}

/// The text of a screen without what is drawn around it, and without where its lines end.
pub(crate) fn flat(screen: &str) -> String {
    let plain = screen.replace(['▸', '│', '┃', '>'], " ");
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The line with a name as one of its words.
pub(crate) fn row<'a>(screen: &'a str, name: &str) -> Option<&'a str> {
    screen.lines().find(|line| words(line).contains(&name))
}

/// Words of a line, without the marks beside them.
pub(crate) fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().map(|word| word.trim_start_matches(['▸', '>', '~'])).collect()
}

/// `1,234`
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number that is written with or without commas.
pub(crate) fn number(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != ',').unwrap_or(text.len());
    text[..end].replace(',', "").parse().ok()
}

/// The pane whose name is styled unlike the others.
pub(crate) fn active(styled: &str) -> Option<String> {
    let lines = cells(styled).ok()?;
    let names = PANES.map(|(_, name)| name);
    lines.iter().find_map(|line| {
        let text: String = line.iter().map(|(c, _)| *c).collect();
        let style_of = |name: &&str| {
            let at = text[..text.find(name)?].chars().count();
            Some(line[at].1.clone())
        };
        let styles: Vec<Style> = names.iter().map(style_of).collect::<Option<_>>()?;
        let alone = |style: &Style| styles.iter().filter(|other| *other == style).count() == 1;
        let index = styles.iter().position(alone)?;
        let others: Vec<_> = styles.iter().enumerate().filter(|(i, _)| *i != index).collect();
        let alike = others.windows(2).all(|pair| pair[0].1 == pair[1].1);
        alike.then(|| names[index].to_owned())
    })
}

/// A process with a name and a number, as `socklife-load` says which it was.
pub(crate) fn pid(made: &Value) -> Result<u64> {
    made["pid"].as_u64().with_context(|| format!("no pid: {made}"))
}

/// The deadline for what has nothing to wait for but a key.
pub(crate) const KEY: Duration = Duration::from_millis(500);

/// What is read off a screen is held against a shell that prints the like.
pub(crate) fn tests() -> Vec<Test> {
    vec![Test::new("view::reads_the_screen", &[Need::Tmux], reads_the_screen)]
}

fn reads_the_screen() -> Result<()> {
    let view = View::shell(LARGE, &[])?;
    let tabs = r" 1 Overview  \033[7m2 Upstreams\033[0m  3 Processes  4 Events  5 Kernel \033[31m!";
    let row_of = r"▸10.77.0.2:9101  \033[1m1,237\033[0m  ~12  refused";
    let screen = view.terminal.shell(&format!("printf '{tabs}\\n{row_of}\\n\\033[0m'"))?;
    let styled = view.terminal.styled()?;
    ensure!(active(&styled).as_deref() == Some("Upstreams"), "{styled:?}");
    let found = row(&screen, "10.77.0.2:9101").with_context(|| screen.clone())?;
    ensure!(
        words(found).contains(&grouped(1237).as_str()) && words(found).contains(&"12"),
        "{found}"
    );
    ensure!(number("1,237)") == Some(1237) && grouped(262_144) == "262,144", "numbers");
    let styled = cells(&styled)?;
    let bold: String =
        styled[1].iter().filter(|cell| cell.1.attributes.contains(&1)).map(|cell| cell.0).collect();
    ensure!(bold == "1,237", "{:?}", styled[1]);
    view.terminal.shell("printf '\\033[7m Overview Upstreams Processes Events Kernel\\n'")?;
    let none = active(&view.terminal.styled()?);
    ensure!(none.is_none(), "all alike: {none:?}");
    Ok(())
}
