//! The `chancery` server: what the command line, the configuration file and the operating system mean to
//! the crates below.
//!
//! A library as well as a binary, so that a test can start a whole server in its own process:
//! [`Server::start`] takes a [`Config`](config::Config) and answers with the addresses. What a homeserver
//! does is not here: [`agency`] wires the crates that know, and `front` hands them each request.

pub mod admin;
pub mod agency;
mod body;
pub mod cli;
pub mod config;
mod delivery_figures;
mod files;
mod front;
mod health;
mod held_store;
mod keys;
mod listen;
mod logs;
mod metrics;
mod process;
mod server;
mod store_figures;
mod tls;
mod well_known;

pub use body::{Body, BoxError, Face};
pub use server::{Running, Server, StartError};
