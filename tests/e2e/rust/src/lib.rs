//! Nothing: the tests are in `rust_sdk/`.
