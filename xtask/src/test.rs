//! Later.
pub(crate) fn run(_install: bool) -> anyhow::Result<()> {
    Ok(())
}
