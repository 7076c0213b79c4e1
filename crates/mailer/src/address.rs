//! Addresses of mail, as they are compared and kept.

use std::fmt;
use std::str::FromStr;

/// The longest address, in bytes (RFC 5321, section 4.5.3.1.3).
const BYTES_MAX: usize = 254;

/// An address in its canonical form (appendices, "E-mail").
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EmailAddress(String);

/// A text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no e-mail address")]
pub struct NotAnAddress;

impl FromStr for EmailAddress {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        // Addresses are the same whatever the case of their letters.
        let canonical = text.trim().to_lowercase();
        if canonical.len() > BYTES_MAX || canonical.contains(|letter: char| letter.is_control() || letter == '"') {
            return Err(NotAnAddress);
        }
        lettre::Address::from_str(&canonical).map_err(|_| NotAnAddress)?;
        Ok(Self(canonical))
    }
}

impl EmailAddress {
    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is behind the `@`.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_in_small_letters() {
        let address: EmailAddress = " Alice.Smith@Agency.EXAMPLE ".parse().unwrap();
        assert_eq!((address.as_str(), address.domain()), ("alice.smith@agency.example", "agency.example"));
        assert_eq!(
            "ИВАНОВ@пример.рф".parse::<EmailAddress>().map(|a| a.to_string()),
            Ok("иванов@пример.рф".to_owned())
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("{}@a.example", "x".repeat(260));
        for text in
            ["", "alice", "@a.example", "alice@", "a b@c.example", "Alice <a@b.example>", "a@b\r\nBcc: c@d", &long]
        {
            assert_eq!(text.parse::<EmailAddress>(), Err(NotAnAddress), "{text}");
        }
    }
}
