//! A real server, driven with matrix-rust-sdk as Element X drives it: its room list over sliding sync, and timelines.

mod person;
mod rooms;
mod server;
mod timelines;
