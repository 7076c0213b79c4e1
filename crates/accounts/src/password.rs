//! Passwords: hashed with Argon2id, away from the async runtime, by so many threads at once and no more.

use crate::{Error, Passwords};
use argon2::password_hash::{PasswordHash, SaltString};
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use base::{Random, Secret};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The longest password that is looked at, in bytes.
pub(crate) const PASSWORD_BYTES_MAX: usize = 1024;

pub(crate) struct Hasher {
    argon2: Argon2<'static>,
    /// One permit a password that is hashed now.
    threads: Arc<Semaphore>,
    /// One permit a password that is hashed or waits for it.
    places: Arc<Semaphore>,
    /// The hash of a password that nobody knows. Those who do not exist are checked against it, so that
    /// whether they do cannot be told by the time it takes.
    nobody: String,
}

/// The costs of Argon2.
pub(crate) fn params(config: &Passwords) -> Result<Params, argon2::Error> {
    let kib = u32::try_from(config.argon2_memory.0 / 1024).unwrap_or(u32::MAX);
    Params::new(kib, config.argon2_passes, config.argon2_lanes, None)
}

impl Hasher {
    pub fn new(config: &Passwords, random: &dyn Random) -> Result<Self, Error> {
        let params = params(config).map_err(|error| Error::Hashing(error.to_string()))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let threads = config
            .hashing_at_once_max
            .or_else(|| std::thread::available_parallelism().ok().map(std::num::NonZero::get))
            .unwrap_or(1);
        let mut unknown = [0_u8; 32];
        random.fill(&mut unknown);
        let nobody = hash(&argon2, &unknown, &salt(random)?)?;
        Ok(Self {
            argon2,
            threads: Arc::new(Semaphore::new(threads)),
            places: Arc::new(Semaphore::new(threads.saturating_add(config.hashing_queue_max))),
            nobody,
        })
    }

    /// Hashes a password to a PHC string.
    pub async fn hash(&self, password: Secret<String>, random: &dyn Random) -> Result<String, Error> {
        let (argon2, salt) = (self.argon2.clone(), salt(random)?);
        self.run(move || hash(&argon2, password.expose().as_bytes(), &salt)).await?
    }

    /// Whether a password is the one that was hashed. Takes the same time if there is no hash.
    pub async fn verify(&self, password: Secret<String>, hash: Option<String>) -> Result<bool, Error> {
        let argon2 = self.argon2.clone();
        let exists = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.clone());
        self.run(move || {
            let hash = PasswordHash::new(&hash).map_err(|error| Error::Hashing(error.to_string()))?;
            // The costs are those of the hash, not those of today's settings.
            Ok(argon2.verify_password(password.expose().as_bytes(), &hash).is_ok() && exists)
        })
        .await?
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| Error::Busy)?;
        let thread = self.threads.clone().acquire_owned().await.map_err(|_| Error::Busy)?;
        // The permits go along: work whose caller has gone away still takes a thread until it is done.
        let work = move || {
            let _permits = (place, thread);
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| Error::Hashing(error.to_string()))
    }
}

fn salt(random: &dyn Random) -> Result<SaltString, Error> {
    let mut bytes = [0_u8; 16];
    random.fill(&mut bytes);
    SaltString::encode_b64(&bytes).map_err(|error| Error::Hashing(error.to_string()))
}

fn hash(argon2: &Argon2<'_>, password: &[u8], salt: &SaltString) -> Result<String, Error> {
    let hash = argon2.hash_password(password, salt).map_err(|error| Error::Hashing(error.to_string()))?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::SeededRandom;
    use base::config::ByteSize;
    use std::sync::mpsc;

    #[tokio::test]
    async fn only_so_many_passwords_wait_to_be_hashed() {
        let config = Passwords {
            argon2_memory: ByteSize::kib(8),
            argon2_passes: 1,
            hashing_at_once_max: Some(1),
            hashing_queue_max: 1,
            ..Passwords::default()
        };
        let hasher = Hasher::new(&config, &SeededRandom::new(1)).unwrap();
        let (end, ends) = mpsc::channel::<()>();
        let first = hasher.run(move || ends.recv().is_err());
        let second = hasher.run(|| true);
        let third = async {
            let refused = hasher.run(|| true).await;
            // Only now may the first one end.
            drop(end);
            refused
        };
        let (first, second, third) = tokio::join!(first, second, third);
        assert!(first.unwrap() && second.unwrap());
        assert!(matches!(third, Err(Error::Busy)));
        assert!(hasher.run(|| true).await.unwrap());
    }
}
