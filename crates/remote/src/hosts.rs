//! Names whose addresses an operator has written down, in the format of `/etc/hosts`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a file of names can't be used.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// It can't be read.
    #[error("{file} can't be read: {why}", file = file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        why: std::io::Error,
    },
    /// A line is no address with names.
    #[error("{file}:{line}: a line is an address and the names that it has", file = file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// Its number.
        line: usize,
    },
}

/// Names and their addresses. They go before DNS, and their addresses are trusted: who writes them down means them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(HashMap<String, Vec<IpAddr>>);

impl Hosts {
    /// Reads a file; one that isn't there has no names.
    pub fn read(file: &Path) -> Result<Self, HostsError> {
        let wrong = |why| HostsError::File { file: file.to_owned(), why };
        let text = match std::fs::metadata(file) {
            Ok(found) if found.len() > FILE_BYTES_MAX => {
                return Err(wrong(std::io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes"))));
            }
            Ok(_) => std::fs::read_to_string(file).map_err(wrong)?,
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(why) => return Err(wrong(why)),
        };
        Self::parse(&text).map_err(|line| HostsError::Line { file: file.to_owned(), line })
    }

    /// Reads the text of such a file. An error is the number of the line that is none.
    fn parse(text: &str) -> Result<Self, usize> {
        let mut hosts = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.split_once('#').map_or(line, |(line, _)| line);
            let mut words = line.split_whitespace();
            let Some(address) = words.next() else { continue };
            let address: IpAddr = address.parse().map_err(|_| index + 1)?;
            let mut names = words.peekable();
            if names.peek().is_none() {
                return Err(index + 1);
            }
            names.for_each(|name| hosts.add(name, address));
        }
        Ok(hosts)
    }

    /// Adds an address of a name.
    pub fn add(&mut self, name: &str, address: IpAddr) {
        let addresses = self.0.entry(name.to_ascii_lowercase()).or_default();
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }

    /// The addresses of a name; none of one that isn't written down.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[IpAddr]> {
        self.0.get(&name.to_ascii_lowercase()).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_in_etc_hosts() {
        let hosts = Hosts::parse("# peers\n127.64.0.1 hs1 HS-One\n\n::1\ths1 # both\n").unwrap();
        let addresses: Vec<IpAddr> = vec!["127.64.0.1".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(hosts.get("hs1"), Some(addresses.as_slice()));
        assert_eq!(hosts.get("hs-one"), Some(&addresses[..1]));
        assert_eq!(hosts.get("hs2"), None);
    }

    #[test]
    fn a_line_that_is_none_is_told() {
        assert_eq!(Hosts::parse("127.0.0.1 a\nhs1 127.0.0.1"), Err(2));
        assert_eq!(Hosts::parse("127.0.0.1"), Err(1));
    }

    #[test]
    fn a_file_that_is_missing_has_no_names() {
        assert_eq!(Hosts::read(Path::new("/does/not/exist")).unwrap(), Hosts::default());
    }
}
