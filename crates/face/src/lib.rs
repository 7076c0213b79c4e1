//! What the HTTP faces of the server share: how a request is read, and how errors are told.
//!
//! Only here and in the faces above are status codes and error codes known.

mod error;
pub mod route_name;
pub mod shown;
pub mod wire;

pub use error::ApiError;
