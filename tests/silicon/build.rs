//! Compiles the native runner, where the host can run it.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=runner");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("runner");
    let target = |name: &str| std::env::var(name).unwrap_or_default();
    let is_x86_linux = matches!(target("CARGO_CFG_TARGET_ARCH").as_str(), "x86_64" | "x86")
        && target("CARGO_CFG_TARGET_OS") == "linux";
    let compiled = is_x86_linux
        && Command::new("gcc")
            .args(["-m32", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-msse2"])
            .args(["-nostdlib", "-static", "-ffreestanding", "-fno-stack-protector", "-fno-pic", "-no-pie"])
            .args(["-fcf-protection=none", "-fno-asynchronous-unwind-tables", "-Wl,--build-id=none"])
            .args(["-Wl,-T,runner/runner.ld", "-o"])
            .arg(&out)
            .args(["runner/runner.c", "runner/entry.S"])
            .status()
            .is_ok_and(|status| status.success());
    if !compiled {
        // an empty runner says at run time what is missing
        std::fs::write(&out, []).expect("OUT_DIR can be written");
        if is_x86_linux {
            println!(
                "cargo:warning=gcc -m32 could not build the native runner: is the package gcc-multilib or libc6-dev-i386 there?"
            );
        }
    }
}
