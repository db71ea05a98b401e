//! The file system that a kernel starts with: the scenario as process 1, the programs under test, and
//! the modules, as a "newc" archive (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection};

use super::kernels::Unpacked;

/// Modules that process 1 loads: nothing loads them on demand in there.
const MODULES: &[&str] = &["inet_diag", "tcp_diag"];

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const CONSOLE: u32 = 0o020_600;

/// Writes the archive: `programs` are pairs of where they are here and where they go.
pub(crate) fn write(to: &Path, kernel: &Unpacked, programs: &[(PathBuf, &str)]) -> Result<()> {
    let mut archive = Archive::default();
    for directory in ["bin", "dev", "modules"] {
        archive.add(directory, DIRECTORY, (0, 0), &[]);
    }
    // The kernel opens it before anything can be mounted.
    archive.add("dev/console", CONSOLE, (5, 1), &[]);
    for (from, name) in programs {
        let data = fs::read(from).with_context(|| from.display().to_string())?;
        archive.add(name, PROGRAM, (0, 0), &data);
    }
    let mut order = Vec::new();
    for module in MODULES {
        add_module(kernel, module, &mut order, &mut archive)?;
    }
    let list = order.iter().fold(String::new(), |list, name| list + &format!("{name}.ko\n"));
    archive.add("modules/order", FILE, (0, 0), list.as_bytes());
    fs::write(to, archive.finish()).with_context(|| to.display().to_string())
}

/// Adds a module behind those that it depends on; one that is built in has no file, and needs none.
fn add_module(
    kernel: &Unpacked,
    name: &str,
    order: &mut Vec<String>,
    archive: &mut Archive,
) -> Result<()> {
    if order.iter().any(|known| known == name) || built_in(kernel, name) {
        return Ok(());
    }
    let file = find(&kernel.modules.join("kernel"), name).with_context(|| {
        format!("kernel {} has no module {name}, neither as a file nor built in", kernel.release())
    })?;
    let data = decompressed(&file)?;
    for needed in dependencies(&data).with_context(|| file.display().to_string())? {
        add_module(kernel, &needed, order, archive)?;
    }
    archive.add(&format!("modules/{name}.ko"), FILE, (0, 0), &data);
    order.push(name.to_owned());
    Ok(())
}

/// Names of modules are the same with `-` and with `_`.
fn module_name(file: &str) -> Option<String> {
    Some(file.split_once(".ko")?.0.replace('-', "_"))
}

fn built_in(kernel: &Unpacked, name: &str) -> bool {
    let list = fs::read_to_string(kernel.modules.join("modules.builtin")).unwrap_or_default();
    let names = list.lines().filter_map(|line| module_name(line.rsplit('/').next()?));
    names.into_iter().any(|known| known == name)
}

fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return find(&path, name);
        }
        (module_name(&entry.file_name().to_string_lossy())? == name).then_some(path)
    })
}

fn decompressed(file: &Path) -> Result<Vec<u8>> {
    let program = match file.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(file).with_context(|| file.display().to_string()),
    };
    let unpacked = Command::new(program).arg("-dc").arg(file).output();
    let unpacked = unpacked.with_context(|| format!("can't run {program}; is it installed?"))?;
    if !unpacked.status.success() {
        bail!("{program} can't unpack {}", file.display());
    }
    Ok(unpacked.stdout)
}

/// The module itself names them; `modules.dep` is made by an installation, which there is none of.
fn dependencies(module: &[u8]) -> Result<Vec<String>> {
    let elf = object::File::parse(module)?;
    let info = elf.section_by_name(".modinfo").context("it has no .modinfo")?;
    let text = String::from_utf8_lossy(info.data()?);
    let depends = text.split('\0').find_map(|entry| entry.strip_prefix("depends="));
    let names = depends.unwrap_or_default().split(',').filter(|name| !name.is_empty());
    Ok(names.map(|name| name.replace('-', "_")).collect())
}

/// A "newc" archive.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(name.len()).unwrap_or(u32::MAX) + 1;
        // ino, mode, uid, gid, nlink, mtime, size, device of the file, device, length of the name, sum
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }
}
