//! Which kernel-side object is embedded: the committed one, unless `SOCKLIFE_OBJECT` names another.

use std::{env, path::PathBuf};

fn main() {
    println!("cargo:rerun-if-env-changed=SOCKLIFE_OBJECT");
    let top = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let committed = top.join("src/kernel/object/tracer-ebpf.o");
    let object = env::var_os("SOCKLIFE_OBJECT").map_or(committed, PathBuf::from);
    println!("cargo:rerun-if-changed={}", object.display());
    println!("cargo:rustc-env=SOCKLIFE_OBJECT={}", object.display());
}
