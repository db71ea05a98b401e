//! The connection tracking table, whose size is the whole host's.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{net::Namespace, process::run, wait_for};

/// How many connections each network namespace's table may have.
pub const MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// What makes rules.
pub const NFT: &str = "/usr/sbin/nft";

/// The size of the host's tables, which is as it was when this is dropped. One at a time.
#[derive(Debug)]
pub struct ConntrackMax {
    setting: fs::File,
    before: String,
    note: PathBuf,
}

impl ConntrackMax {
    /// Takes hold of it. A run that was killed has left a note of what it was.
    ///
    /// # Errors
    /// It can't be read, or another run doesn't give it back.
    pub fn new() -> Result<Self> {
        let note = std::env::temp_dir().join("socklife-tests-nf_conntrack_max");
        wait_for("another run to give nf_conntrack_max back", || {
            let Ok(text) = fs::read_to_string(&note) else { return Ok(Some(())) };
            let (owner, before) = text.trim().split_once(' ').context("a torn note")?;
            if Path::new("/proc").join(owner).exists() {
                return Ok(None);
            }
            fs::write(MAX, before).context(MAX)?;
            fs::remove_file(&note)?;
            Ok(Some(()))
        })?;
        let before = fs::read_to_string(MAX).context(MAX)?.trim().to_owned();
        let setting = fs::File::options().write(true).open(MAX).context(MAX)?;
        fs::write(&note, format!("{} {before}", std::process::id()))?;
        Ok(Self { setting, before, note })
    }

    /// Sets it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set(&self, value: u64) -> Result<()> {
        let written = self.setting.write_all_at(value.to_string().as_bytes(), 0);
        written.with_context(|| format!("{MAX} = {value}"))
    }
}

/// A table of chains, for nft.
fn table(chains: &[&str]) -> String {
    let mut text = "table inet t {\n".to_owned();
    for (index, chain) in chains.iter().enumerate() {
        text += &format!(" chain c{index} {{\n type filter {chain}\n }}\n");
    }
    text + "}\n"
}

impl ConntrackMax {
    /// Leaves all as a run does that is killed: its process is gone, the setting stays.
    ///
    /// # Errors
    /// The note can't be written.
    pub fn abandon(self) -> Result<()> {
        let mut gone = std::process::Command::new("true").spawn()?;
        gone.wait()?;
        fs::write(&self.note, format!("{} {}", gone.id(), self.before))?;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for ConntrackMax {
    fn drop(&mut self) {
        if let Err(error) = self.setting.write_all_at(self.before.as_bytes(), 0) {
            eprintln!("{MAX} is not {} again: {error}", self.before);
            return;
        }
        if let Err(error) = fs::remove_file(&self.note) {
            eprintln!("{} is left behind: {error}", self.note.display());
        }
    }
}

impl Namespace {
    /// Makes it track connections.
    ///
    /// # Errors
    /// `nft` fails.
    pub fn track(&self) -> Result<()> {
        self.nft(&table(&["hook input priority 0; policy accept; ct state new accept;"]))
    }

    /// The same, but for those to or from a TCP port of its own.
    ///
    /// # Errors
    /// `nft` fails.
    pub fn track_all_but(&self, port: u16) -> Result<()> {
        self.nft(&table(&[
            "hook input priority 0; policy accept; ct state new accept;",
            &format!("hook prerouting priority -300; tcp dport {port} notrack;"),
            &format!("hook output priority -300; tcp sport {port} notrack;"),
        ]))
    }

    /// Makes it track none any more.
    ///
    /// # Errors
    /// `nft` fails.
    pub fn track_none(&self) -> Result<()> {
        self.nft("flush ruleset\n")
    }

    fn nft(&self, rules: &str) -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(&file, rules)?;
        run(self.command("nft").arg("-f").arg(file.path())).map(drop)
    }

    /// Entries in its table.
    ///
    /// # Errors
    /// They can't be read.
    pub fn tracked(&self) -> Result<u64> {
        Ok(self.read("/proc/sys/net/netfilter/nf_conntrack_count")?.trim().parse()?)
    }

    /// The counters of its table, over all CPUs.
    ///
    /// # Errors
    /// They can't be read.
    pub fn conntrack_counters(&self) -> Result<BTreeMap<String, u64>> {
        let text = self.read("/proc/net/stat/nf_conntrack")?;
        let mut rows = text.lines();
        let names: Vec<&str> = rows.next().context("no names")?.split_whitespace().collect();
        let mut sums = BTreeMap::new();
        for row in rows {
            for (name, value) in names.iter().zip(row.split_whitespace()) {
                *sums.entry((*name).to_owned()).or_insert(0) += u64::from_str_radix(value, 16)?;
            }
        }
        Ok(sums)
    }
}
