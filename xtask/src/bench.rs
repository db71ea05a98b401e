//! Later.
pub(crate) fn run(_connections: u64, _rounds: usize) -> anyhow::Result<()> {
    Ok(())
}
