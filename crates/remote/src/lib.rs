//! Requests to other servers.
