use crate::incident::Incident;
use anyhow::Result;
use std::path::Path;
pub(crate) fn draw(_into: &Path, _only: Incident) -> Result<()> {
    Ok(())
}
