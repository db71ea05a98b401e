//! The kernel-side object: built from `tracer-ebpf/`, committed beside its loader with a manifest
//! that says from which sources and by which tools, so that users need stable Rust alone.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use object::build::elf::{Builder, SectionData};
use sha2::{Digest, Sha256};

use crate::shell::{capture, cargo, have, root, run};

const OBJECT: &str = "tracer/src/kernel/object/tracer-ebpf.o";
const MANIFEST: &str = "tracer/src/kernel/object/MANIFEST";
const TARGET: &str = "bpfel-unknown-none";
const BPF_LINKER: &str = "0.13.0";

/// A way to compile for BPF.
enum Toolchain {
    /// Debian's rustc-web with the prebuilt `core` of libstd-rust-web-dev-bpf.
    Debian,
    /// rustup's nightly with rust-src: `core` is built too.
    Nightly,
}

impl Toolchain {
    fn find() -> Option<Self> {
        let debian = Command::new("/usr/bin/rustc").args(["--print", "sysroot"]).output();
        if let Ok(sysroot) = debian {
            let sysroot = String::from_utf8_lossy(&sysroot.stdout).trim().to_owned();
            if Path::new(&sysroot).join("lib/rustlib").join(TARGET).is_dir() {
                return Some(Self::Debian);
            }
        }
        let source =
            Command::new("rustc").args(["+nightly", "--print", "sysroot"]).output().ok()?;
        let sysroot = String::from_utf8_lossy(&source.stdout).trim().to_owned();
        let core = Path::new(&sysroot).join("lib/rustlib/src/rust/library/core");
        core.is_dir().then_some(Self::Nightly)
    }

    fn rustc(&self) -> Command {
        match self {
            Self::Debian => Command::new("/usr/bin/rustc"),
            Self::Nightly => {
                let mut rustc = Command::new("rustc");
                rustc.arg("+nightly");
                rustc
            }
        }
    }

    fn cargo(&self) -> Command {
        match self {
            Self::Debian => {
                let mut cargo = cargo(&["build"]);
                // aya-ebpf names an unstable feature for this target.
                cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
                cargo
            }
            Self::Nightly => {
                let mut cargo = Command::new("cargo");
                cargo.args(["+nightly", "build", "-Zbuild-std=core"]).current_dir(root());
                cargo.env_remove("RUSTC").env_remove("RUSTUP_TOOLCHAIN");
                cargo
            }
        }
    }
}

/// Builds the object and puts it, with its manifest, beside the loader.
pub(crate) fn build_and_commit() -> Result<()> {
    let Some(toolchain) = Toolchain::find() else {
        bail!(
            "no compiler for {TARGET}: install Debian's rustc-web and libstd-rust-web-dev-bpf, or rustup's \
             nightly with rust-src; then bpf-linker {BPF_LINKER} (docs/development.md)"
        );
    };
    let object = build(&toolchain)?;
    let manifest = manifest(&toolchain, &object)?;
    fs::create_dir_all(root().join(OBJECT).parent().unwrap_or(&root()))?;
    fs::write(root().join(OBJECT), &object).context(OBJECT)?;
    fs::write(root().join(MANIFEST), &manifest).context(MANIFEST)?;
    println!("{OBJECT}: {} bytes\n{manifest}", object.len());
    Ok(())
}

/// Fails when the committed object is not what the sources make. Where the tools are those of the
/// manifest it is built again and compared byte by byte; else the hashes must do.
pub(crate) fn check() -> Result<()> {
    let committed = fs::read(root().join(OBJECT)).context(OBJECT)?;
    let manifest = fs::read_to_string(root().join(MANIFEST)).context(MANIFEST)?;
    let stated = |key: &str| {
        let line = manifest.lines().find_map(|line| line.strip_prefix(key));
        line.map(str::trim).with_context(|| format!("{MANIFEST} has no line {key:?}"))
    };
    if stated("sources")? != sources_hash()? {
        bail!(
            "the sources of the kernel side changed since {OBJECT} was built: `cargo xtask ebpf`"
        );
    }
    if stated("object")? != hash(&committed) {
        bail!("{OBJECT} is not the one that {MANIFEST} speaks of: `cargo xtask ebpf`");
    }
    println!("{OBJECT} belongs to these sources");
    Ok(())
}

/// Builds the object from source for the tests. `None`: the committed one is the same, or can't be
/// built here (said loudly).
pub(crate) fn fresh() -> Result<Option<PathBuf>> {
    let Some(toolchain) = Toolchain::find() else {
        println!("NOT REBUILT: no compiler for {TARGET} here; the tests use the committed object");
        return Ok(None);
    };
    let object = build(&toolchain)?;
    if object == fs::read(root().join(OBJECT)).context(OBJECT)? {
        println!("built from source: the same bytes as the committed object");
        return Ok(None);
    }
    let committed = fs::read_to_string(root().join(MANIFEST)).context(MANIFEST)?;
    let tools = |text: &str| -> Vec<String> {
        let is_tool = |line: &&str| line.starts_with("compiler") || line.starts_with("linker");
        text.lines().filter(is_tool).map(str::to_owned).collect()
    };
    if tools(&committed) == tools(&manifest(&toolchain, &object)?) {
        bail!("the same tools and sources make another object than {OBJECT}: `cargo xtask ebpf`");
    }
    let path = root().join("target/ebpf/fresh.o");
    fs::write(&path, &object)?;
    println!(
        "built from source by other tools than the committed object: the tests use the fresh one"
    );
    Ok(Some(path))
}

fn build(toolchain: &Toolchain) -> Result<Vec<u8>> {
    let directory = root().join("target/ebpf");
    let linker = linker()?;
    let home = std::env::var("CARGO_HOME")
        .or_else(|_| Ok::<_, std::env::VarError>(format!("{}/.cargo", std::env::var("HOME")?)))?;
    let flags = [
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("-Clinker={}", linker.display()),
        "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
        // No path of the building machine goes into the object.
        format!("--remap-path-prefix={}=socklife", root().display()),
        format!("--remap-path-prefix={home}/registry/src=registry"),
    ];
    run(toolchain
        .cargo()
        .args([
            "--quiet",
            "--package",
            "tracer-ebpf",
            "--bin",
            "tracer-ebpf",
            "--features",
            "kernel",
        ])
        .args(["--release", "--target", TARGET, "--target-dir"])
        .arg(&directory)
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f")))?;
    let linked = directory.join(TARGET).join("release/tracer-ebpf");
    let data = fs::read(&linked).with_context(|| linked.display().to_string())?;
    without_dwarf(&data)
}

/// bpf-linker, built from its crate where it is missing and its LLVM is there.
fn linker() -> Result<PathBuf> {
    let wanted = format!("bpf-linker {BPF_LINKER}");
    let own = root().join("target/tools/bin/bpf-linker");
    for candidate in [PathBuf::from("bpf-linker"), own.clone()] {
        if capture(Command::new(&candidate).arg("--version")).is_ok_and(|found| found == wanted) {
            return Ok(candidate);
        }
    }
    let llvm = "/usr/lib/llvm-22";
    if !Path::new(llvm).is_dir() && !have("llvm-config-22") {
        bail!(
            "bpf-linker {BPF_LINKER} is missing, and so is the LLVM 22 to build it with (docs/development.md)"
        );
    }
    println!("installing {wanted} into target/tools");
    let mut install = cargo(&["install", "--quiet", "bpf-linker", "--version", BPF_LINKER]);
    install.args(["--locked", "--no-default-features", "--features", "llvm-22", "--root"]);
    run(install.arg(root().join("target/tools")).env("LLVM_PREFIX", llvm))?;
    Ok(own)
}

/// The object without DWARF, from which the linker has made the BTF already.
fn without_dwarf(data: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(data).context("the linker's output is no ELF file")?;
    for section in &mut builder.sections {
        let name = section.name.to_string();
        if name.starts_with(".debug") || name.starts_with(".rel.debug") {
            section.delete = true;
        }
    }
    builder.delete_orphans();
    // LLVM keeps the names of sections among those of symbols; the builder wants them apart.
    let names = builder.sections.add();
    names.name = ".shstrtab".into();
    names.sh_type = object::elf::SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("can't write the object")?;
    Ok(stripped)
}

fn manifest(toolchain: &Toolchain, object: &[u8]) -> Result<String> {
    let mut text =
        String::from("# Made by `cargo xtask ebpf`; checked by `cargo xtask ebpf --check`.\n");
    let compiler = capture(toolchain.rustc().arg("--version"))?;
    writeln!(text, "sources {}", sources_hash()?)?;
    writeln!(text, "object {}", hash(object))?;
    writeln!(text, "compiler {compiler}")?;
    writeln!(text, "linker bpf-linker {BPF_LINKER}")?;
    Ok(text)
}

/// Hash of all that decides what the object is: the sources, their manifest, and the versions of the
/// crates that go into it.
fn sources_hash() -> Result<String> {
    let mut files = Vec::new();
    collect(&root().join("tracer-ebpf"), &mut files)?;
    files.sort();
    let mut hasher = Sha256::new();
    for file in files {
        let name = file.strip_prefix(root()).unwrap_or(&file).display().to_string();
        hasher.update(name.as_bytes());
        hasher.update(fs::read(&file)?);
    }
    let lock = fs::read_to_string(root().join("Cargo.lock")).context("Cargo.lock")?;
    for package in lock.split("[[package]]") {
        if ["\"aya-ebpf", "\"aya-log-ebpf", "\"aya-log-common", "\"zerocopy"]
            .iter()
            .any(|name| package.trim_start().starts_with(&format!("name = {name}")))
        {
            hasher.update(package.trim().as_bytes());
        }
    }
    Ok(hex(&hasher.finalize()))
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn hash(data: &[u8]) -> String {
    hex(&Sha256::digest(data))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::from("sha256:"), |mut text, byte| {
        // Writing into a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
