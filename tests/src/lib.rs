//! Whole-machine, differential and robustness tests, and benchmarks.
