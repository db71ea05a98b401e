//! The kernel-side programs of socklife.
//!
//! They record and filter; what a record means is decided in userspace. The road of an event:
//! `probes` → `filter` → `emit` → ring.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
// What is called from two places is a function of its own otherwise, and verifiers before 6.2 walk each
// path through a program that has one.
#![feature(stmt_expr_attributes)]
#![expect(
    clippy::inline_always,
    reason = "one program, not a chain of calls: a pointer stays typed for the verifier"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "halves of packed words, and kernel ints that hold small numbers"
)]

// Only so that the host's compiler can check these sources (clippy).
#[cfg(not(target_arch = "bpf"))]
extern crate std;

mod call;
mod emit;
mod filter;
mod life;
mod maps;
mod offsets;
mod probed;
mod probes;
mod record;
mod sock;
mod task;
mod walk;

/// The kernel lets only GPL-compatible programs call `bpf_probe_read_kernel` and the like. The
/// sources are MIT OR Apache-2.0; this tells the kernel that the MIT side is GPL-compatible.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // The verifier refuses a program that could get here.
    loop {}
}
