//! Several servers in one process, with a network that the test controls.

mod entering;
mod net;
mod receiving;
mod sending;
mod simulation;
