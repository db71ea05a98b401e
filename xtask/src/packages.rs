//! System packages that building the kernel side and the end-to-end tests need.

use std::process::Command;

use anyhow::Result;

use crate::shell::{have, is_root, run};

/// A package of Debian and its relatives, and a file that tells it is there.
struct Package {
    name: &'static str,
    file: &'static str,
}

/// To build the kernel-side object: a compiler with a prebuilt `core` for BPF, and bpf-linker's LLVM.
const TO_BUILD: &[Package] = &[
    Package { name: "rustc-web", file: "/usr/bin/rustc" },
    Package {
        name: "libstd-rust-web-dev-bpf",
        file: "/usr/share/doc/libstd-rust-web-dev-bpf/copyright",
    },
    Package { name: "llvm-22-dev", file: "/usr/lib/llvm-22/include/llvm-c/Core.h" },
    Package { name: "libpolly-22-dev", file: "/usr/share/doc/libpolly-22-dev/copyright" },
    Package { name: "zlib1g-dev", file: "/usr/include/zlib.h" },
    Package { name: "libzstd-dev", file: "/usr/include/zstd.h" },
];

/// For the end-to-end tests.
const TO_TEST: &[Package] = &[
    Package { name: "nginx-light", file: "/usr/sbin/nginx" },
    Package { name: "haproxy", file: "/usr/sbin/haproxy" },
    Package { name: "wrk", file: "/usr/bin/wrk" },
    Package { name: "iproute2", file: "/usr/share/doc/iproute2/copyright" },
    Package { name: "nftables", file: "/usr/sbin/nft" },
    Package { name: "procps", file: "/usr/share/doc/procps/copyright" },
    Package { name: "chromium", file: "/usr/bin/chromium" },
    Package { name: "tmux", file: "/usr/bin/tmux" },
    Package { name: "qemu-system-x86", file: "/usr/bin/qemu-system-x86_64" },
    Package { name: "python3-venv", file: "/usr/share/doc/python3-venv/copyright" },
    Package { name: "xz-utils", file: "/usr/bin/xz" },
];

/// Installs what is missing where this may be done; else names it. Nothing missing: says nothing.
pub(crate) fn provide(install: bool) -> Result<()> {
    let missing: Vec<&str> = TO_BUILD
        .iter()
        .chain(TO_TEST)
        .filter(|package| !std::path::Path::new(package.file).exists())
        .map(|package| package.name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !(install && is_root() && have("apt-get")) {
        println!("MISSING system packages (what needs them is skipped): {}", missing.join(" "));
        return Ok(());
    }
    println!("installing {}", missing.join(" "));
    run(Command::new("apt-get").args(["-q", "-y", "update"]))?;
    let install = ["-q", "-y", "--no-install-recommends", "install"];
    // Installed for their files only: no service may start.
    let policy = std::path::Path::new("/usr/sbin/policy-rc.d");
    let forbid = !policy.exists();
    if forbid {
        std::fs::write(policy, "#!/bin/sh\nexit 101\n")?;
        run(Command::new("chmod").arg("+x").arg(policy))?;
    }
    let outcome = run(Command::new("apt-get")
        .args(install)
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive"));
    if forbid {
        std::fs::remove_file(policy)?;
    }
    if let Err(error) = outcome {
        println!(
            "NOT ALL INSTALLED ({error:#}); what needs them is skipped: {}",
            missing.join(" ")
        );
    }
    Ok(())
}
