//! Python with what people look at exports with, and another reader of Nginx's configurations, in a virtual environment below `target/tools`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// What is installed from PyPI.
const PACKAGES: [&str; 4] =
    ["duckdb==2.0.1", "pandas==3.1.1", "pyarrow==26.0.1", "crossplane==0.5.8"];

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

/// A download has its own patience.
fn to_end(command: &mut Command) -> Result<()> {
    let end = command.output().with_context(|| format!("can't run {command:?}"))?;
    let said = String::from_utf8_lossy(&end.stderr);
    let last = said.lines().last().unwrap_or_default();
    ensure!(end.status.success(), "{command:?} failed: {last}");
    Ok(())
}
