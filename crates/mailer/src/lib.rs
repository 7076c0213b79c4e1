//! Mails to users.
