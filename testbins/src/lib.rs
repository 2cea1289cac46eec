//! Guest programs for i386, built at compile time and exported as bytes.
