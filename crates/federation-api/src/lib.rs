//! The Matrix server-server API.
