//! Image files in, a plan of what to place where out.
