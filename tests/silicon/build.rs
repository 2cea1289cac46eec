//! Compiles the native runner, where the host can run it.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=runner");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("runner");
    let target = |name: &str| std::env::var(name).unwrap_or_default();
    let is_x86_linux = matches!(target("CARGO_CFG_TARGET_ARCH").as_str(), "x86_64" | "x86")
        && target("CARGO_CFG_TARGET_OS") == "linux";
    // what a runner needs, without the runner: if this fails the host lacks something, else the runner is at fault
    let trial = out.with_extension("c");
    std::fs::write(&trial, "#include <stdint.h>\n#include <linux/seccomp.h>\nint start;\n")
        .expect("OUT_DIR can be written");
    let gcc = || {
        let mut gcc = Command::new("gcc");
        gcc.args(["-m32", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-msse2"])
            .args(["-nostdlib", "-static", "-ffreestanding", "-fno-stack-protector", "-fno-pic", "-no-pie"])
            .args(["-fcf-protection=none", "-fno-asynchronous-unwind-tables", "-Wl,--build-id=none"]);
        gcc
    };
    let has_compiler = is_x86_linux
        && gcc()
            .args(["-Wl,-e,start", "-o"])
            .arg(&out)
            .arg(&trial)
            .output()
            .is_ok_and(|o| o.status.success());
    if has_compiler {
        let status = gcc()
            .args(["-Wl,-T,runner/runner.ld", "-o"])
            .arg(&out)
            .args(["runner/runner.c", "runner/entry.S"])
            .status();
        assert!(status.is_ok_and(|status| status.success()), "gcc could not build the native runner");
        return;
    }
    // an empty runner says at run time what is missing
    std::fs::write(&out, []).expect("OUT_DIR can be written");
    if is_x86_linux {
        println!(
            "cargo:warning=gcc -m32 builds nothing here, so no case will run natively: install gcc-multilib"
        );
    }
}
