//! The key with which an agency signs, in a file of its data folder.
//!
//! The file `signing.key` has one line: `ed25519`, the version and the seed in Base64 without padding,
//! which is how other homeservers keep theirs, so that a key can be carried over. Who reads it can speak
//! for the agency: only its owner may.

use crate::files::write_whole;
use anyhow::{Context, bail};
use base::{Random, Secret, random_string};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rules::SigningKey;
use ruma::OwnedServerName;
use std::path::Path;

const FILE: &str = "signing.key";

/// The bytes of an Ed25519 seed.
const SEED_BYTES: usize = 32;

/// The key in the folder; a new one if there is none yet.
pub(crate) fn load_or_create(
    folder: &Path,
    server_name: OwnedServerName,
    random: &dyn Random,
) -> anyhow::Result<SigningKey> {
    let file = folder.join(FILE);
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => create(&file, random)?,
        Err(error) => return Err(error).with_context(|| format!("{} can't be read", file.display())),
    };
    let text = Secret::new(text);
    parse(text.expose(), server_name).with_context(|| format!("{} can't be used", file.display()))
}

fn create(file: &Path, random: &dyn Random) -> anyhow::Result<String> {
    let mut seed = [0; SEED_BYTES];
    random.fill(&mut seed);
    let text = format!("ed25519 a_{} {}\n", random_string(random, 6), STANDARD_NO_PAD.encode(seed));
    write_whole(file, text.as_bytes()).with_context(|| format!("{} can't be written", file.display()))?;
    Ok(text)
}

fn parse(text: &str, server_name: OwnedServerName) -> anyhow::Result<SigningKey> {
    let mut words = text.split_whitespace();
    let (Some("ed25519"), Some(version), Some(seed), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        bail!("it must have one line: ed25519, a version and a key in Base64");
    };
    let seed = Secret::new(STANDARD_NO_PAD.decode(seed.trim_end_matches('=')).context("the key is not Base64")?);
    Ok(SigningKey::from_stored(server_name, version, seed.expose())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::SeededRandom;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let name = || ruma::owned_server_name!("a.example");
        let first = load_or_create(folder.path(), name(), &SeededRandom::new(1)).unwrap();
        let second = load_or_create(folder.path(), name(), &SeededRandom::new(2)).unwrap();
        assert_eq!(first.key_id(), second.key_id());
        assert_eq!(first.seed(), second.seed());
        let mode = std::fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_broken_key_is_refused_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "rsa a b\n").unwrap();
        let name = ruma::owned_server_name!("a.example");
        assert!(load_or_create(folder.path(), name, &SeededRandom::new(1)).is_err());
        assert_eq!(std::fs::read_to_string(folder.path().join(FILE)).unwrap(), "rsa a b\n");
    }
}
