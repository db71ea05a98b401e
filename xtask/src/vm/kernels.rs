//! Real kernels: Debian's packages, fetched by an ordinary user and unpacked, never installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::directory;
use crate::shell::capture;

/// A kernel to test on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel {
    /// Its release, as far as it matters.
    pub(crate) name: &'static str,
    /// The release of Debian that has it.
    pub(crate) suite: &'static str,
}

/// From the floor that ring buffers set to the newest there is.
pub(crate) const KERNELS: &[Kernel] = &[
    Kernel { name: "5.10", suite: "bullseye" },
    Kernel { name: "6.1", suite: "bookworm" },
    Kernel { name: "6.12", suite: "trixie" },
    Kernel { name: "7.2", suite: "sid" },
];

/// Depends on the newest kernel of its suite. The cloud flavour is the smallest, with all we need.
const META_PACKAGE: &str = "linux-image-cloud-amd64";
/// What the kernel and its modules come in; since 7.x they are apart.
const PARTS: [&str; 3] = ["linux-image-", "linux-binary-", "linux-modules-"];

/// Suites that tell Debian's archive from other sources of packages.
const SUITES: [&str; 11] = [
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];
const FALLBACK_URI: &str = "http://deb.debian.org/debian";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An unpacked kernel.
#[derive(Clone, Debug)]
pub(crate) struct Unpacked {
    /// The kernel itself.
    pub(crate) image: PathBuf,
    /// The directory of its modules, named like the release.
    pub(crate) modules: PathBuf,
}

impl Unpacked {
    fn find(files: &Path) -> Result<Self> {
        let all = ["lib/modules", "usr/lib/modules"].map(|under| entries(&files.join(under)));
        let modules = all.concat().into_iter().find(|path| path.join("kernel").is_dir());
        let modules = modules.context("the packages have no modules")?;
        let mut images = entries(&files.join("boot"));
        images.retain(|path| path.to_string_lossy().contains("vmlinuz-"));
        images.extend(all.concat().iter().map(|release| release.join("vmlinuz")));
        let image = images.into_iter().find(|path| path.is_file());
        Ok(Self { image: image.context("the packages have no kernel")?, modules })
    }

    /// `uname -r` of it.
    pub(crate) fn release(&self) -> String {
        self.modules.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

impl Kernel {
    /// The kernel from an earlier run, else from the archive.
    pub(crate) fn get(self) -> Result<Unpacked> {
        let at = directory().join("kernels").join(self.name);
        let (files, complete) = (at.join("files"), at.join("complete"));
        if complete.is_file()
            && let Ok(found) = Unpacked::find(&files)
        {
            return Ok(found);
        }
        if at.exists() {
            fs::remove_dir_all(&at).with_context(|| at.display().to_string())?;
        }
        let started = std::time::Instant::now();
        let fetched = self.fetch(&at, &files).with_context(|| {
            format!("can't fetch kernel {} from Debian's suite {}", self.name, self.suite)
        })?;
        println!(
            "kernel {}: fetched {} from {} in {:.0} s",
            self.name,
            fetched.release(),
            self.suite,
            started.elapsed().as_secs_f64()
        );
        fs::write(&complete, fetched.release())?;
        Ok(fetched)
    }

    fn fetch(self, at: &Path, files: &Path) -> Result<Unpacked> {
        let apt = at.join("apt");
        for needed in ["state", "lists/partial", "cache/archives/partial", "packages"] {
            fs::create_dir_all(apt.join(needed))?;
        }
        fs::create_dir_all(files)?;
        let signed_by = if Path::new(KEYRING).exists() {
            format!(" signed-by={KEYRING}")
        } else {
            String::new()
        };
        let source = format!(
            "deb [arch=amd64 target=Packages{signed_by}] {} {} main\n",
            debian_uri(),
            self.suite
        );
        fs::write(apt.join("sources.list"), source)?;
        fs::write(apt.join("status"), "")?;
        // What this machine does behind every update is not for these lists.
        fs::write(
            apt.join("apt.conf"),
            "#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n",
        )?;
        // A suite that is gone is only a warning to apt-get, unless told otherwise.
        capture(apt_tool("apt-get", &apt).args(["-qq", "--error-on=any", "update"]))?;
        let packages = self.packages(&apt)?;
        let debs = apt.join("packages");
        capture(
            apt_tool("apt-get", &apt).args(["-qq", "download"]).args(&packages).current_dir(&debs),
        )?;
        for package in entries(&debs) {
            capture(Command::new("dpkg").arg("-x").arg(&package).arg(files))?;
        }
        fs::remove_dir_all(&apt)?;
        Unpacked::find(files)
    }

    /// The packages that the meta-package leads to today.
    fn packages(self, apt: &Path) -> Result<Vec<String>> {
        let (mut open, mut found) = (vec![META_PACKAGE.to_owned()], Vec::new());
        while let Some(package) = open.pop() {
            let shown = capture(apt_tool("apt-cache", apt).args(["depends", &package]))?;
            for line in shown.lines() {
                let Some(needed) = line.trim().strip_prefix("Depends: ") else { continue };
                let part = PARTS.iter().any(|part| needed.starts_with(part));
                if part && !found.iter().any(|known| known == needed) {
                    found.push(needed.to_owned());
                    open.push(needed.to_owned());
                }
            }
        }
        ensure!(!found.is_empty(), "{} has no {META_PACKAGE} that depends on a kernel", self.suite);
        let wanted = format!("{}.", self.name);
        if !found.iter().any(|package| package.contains(&format!("-{wanted}"))) {
            println!("kernel {}: {} has moved on, to {}", self.name, self.suite, found[0]);
        }
        Ok(found)
    }
}

/// apt with everything that it writes kept below a directory of ours; the machine's own lists, cache
/// and locks stay as they are.
fn apt_tool(program: &str, apt: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("-c").arg(apt.join("apt.conf"));
    let mut option = |text: String| {
        command.arg("-o").arg(text);
    };
    for (name, below) in [
        ("Dir::Etc::sourcelist", "sources.list"),
        ("Dir::State", "state"),
        ("Dir::State::lists", "lists"),
        ("Dir::State::status", "status"),
        ("Dir::Cache", "cache"),
    ] {
        option(format!("{name}={}", apt.join(below).display()));
    }
    // As root it would drop to a user who may not write here.
    for fixed in [
        "Dir::Etc::sourceparts=/dev/null",
        "APT::Sandbox::User=root",
        "APT::Architecture=amd64",
        "Acquire::Languages=none",
        "Acquire::Retries=2",
        "Acquire::http::Timeout=30",
    ] {
        option(fixed.to_owned());
    }
    command.env("LC_ALL", "C");
    command
}

/// Where this machine gets Debian from.
fn debian_uri() -> String {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    files.extend(entries(Path::new("/etc/apt/sources.list.d")));
    let found = files.iter().find_map(|file| {
        let text = fs::read_to_string(file).ok()?;
        match file.extension()?.to_str()? {
            "list" => uri_of_lines(&text),
            "sources" => uri_of_stanzas(&text),
            _ => None,
        }
    });
    found.unwrap_or_else(|| FALLBACK_URI.to_owned())
}

/// `deb [options] URI SUITE COMPONENT…`
fn uri_of_lines(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']')?.1,
            None => rest,
        };
        let mut words = rest.split_whitespace();
        let (uri, suite) = (words.next()?, words.next()?);
        SUITES.contains(&suite).then(|| uri.to_owned())
    })
}

/// Paragraphs with `URIs:` and `Suites:`.
fn uri_of_stanzas(text: &str) -> Option<String> {
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines.split(|line| line.trim().is_empty()).find_map(|stanza| {
        let field = |name: &str| stanza.iter().find_map(|line| line.strip_prefix(name));
        let debian = field("Suites:")?.split_whitespace().any(|suite| SUITES.contains(&suite));
        let uri = field("URIs:")?.split_whitespace().next()?;
        debian.then(|| uri.to_owned())
    })
}
