//! What needs other servers.
