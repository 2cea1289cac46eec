#!/usr/bin/env bash
# The benchmarks against other emulators, side by side in one run: medians and ratios.
#   tests/bench.sh [integer] [boot]    all if none is named; PAGEWALK_ROUNDS=N for another number of rounds than 3
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked
cargo run --release --locked -q -p pagewalk-tests --bin bench -- "$@"
