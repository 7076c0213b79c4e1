//! Sessions: what tokens stand for.

use crate::devices::{DEVICES_MAX, check_display_name};
use crate::token::{self, ACCESS_PREFIX, REFRESH_PREFIX};
use crate::{Accounts, Error, Sessions, Verified};
use base::UnixMillis;
use base::limits::ID_BYTES_MAX;
use quick_cache::sync::Cache;
use records::{
    AccessTokenRecord, Changes, DeviceRecord, LastSeen, RefreshTokenRecord, Sanctions, TokenHash, UserRecord,
};
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use store::CommitError;

/// The length of the device ids that are made up for clients that bring none.
const DEVICE_ID_LENGTH: usize = 10;

/// Who an access token stands for.
#[derive(Debug)]
pub struct SessionInfo {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// When the access token expires.
    pub expires_at: Option<UnixMillis>,
    /// Whether the user is a guest.
    pub is_guest: bool,
    /// Whether the user administers the agency.
    pub is_admin: bool,
    /// What administrators have laid upon the user.
    pub sanctions: Sanctions,
    /// When the device was last seen, as it was last noted.
    seen_at: AtomicU64,
}

/// How a session begins.
#[derive(Clone, Debug, Default)]
pub struct NewSession {
    /// The device that the client brings; an empty one is none. One that exists loses its tokens and keeps its name.
    pub device_id: Option<OwnedDeviceId>,
    /// What a new device is called.
    pub display_name: Option<String>,
    /// The client can refresh its token.
    pub can_refresh: bool,
    /// The check of the password that the session is owed to, if it is: a password that was changed meanwhile
    /// begins none.
    pub proof: Option<Verified>,
}

/// What a client gets to use a session.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// The access token.
    pub access_token: String,
    /// The token that gets the next access token.
    pub refresh_token: Option<String>,
    /// How long the access token lasts.
    pub expires_in: Option<Duration>,
}

/// Sessions that are remembered in memory, by the hash of their access token.
pub(crate) struct Cached {
    sessions: Cache<TokenHash, Arc<SessionInfo>>,
    /// Held for reading while a session is read from the store and remembered, and for writing while sessions
    /// that have ended in the store are forgotten: so none is remembered after it has ended.
    forgetting: RwLock<()>,
}

impl Cached {
    pub fn new(config: &Sessions) -> Self {
        Self { sessions: Cache::new(config.cached_max), forgetting: RwLock::new(()) }
    }

    /// Forgets sessions, after the commit that ended them.
    pub fn forget(&self, hashes: &[TokenHash]) {
        let _forgetting = self.forgetting.write().unwrap_or_else(PoisonError::into_inner);
        for hash in hashes {
            self.sessions.remove(hash);
        }
    }
}

/// The tokens of a session, new, with what is stored of them.
struct NewTokens {
    access: (String, TokenHash),
    refresh: Option<(String, TokenHash)>,
    lifetime: Option<Duration>,
}

impl Accounts {
    /// Who an access token stands for. Notes now and then that the device was seen at this address.
    ///
    /// The first use of a token that came from a refresh retires the refresh token it came from, and the access
    /// token of that one (client-server API, "Refreshing access tokens").
    pub async fn authenticate(&self, access_token: &str, address: IpAddr) -> Result<Arc<SessionInfo>, Error> {
        let hash = token::hash(access_token);
        let session = match self.0.cached.sessions.get(&hash) {
            Some(session) => session,
            None => match self.remember(&hash)? {
                Known::Session(session) => session,
                Known::Retiring => {
                    self.retire_before(&hash).await?;
                    match self.remember(&hash)? {
                        Known::Session(session) => session,
                        Known::Retiring => return Err(Error::Contended),
                    }
                }
            },
        };
        let now = self.now();
        if session.expires_at.is_some_and(|expires_at| expires_at <= now) {
            return Err(Error::UnknownToken { soft_logout: true });
        }
        self.note_seen(&session, now, address).await?;
        Ok(session)
    }

    fn remember(&self, hash: &TokenHash) -> Result<Known, Error> {
        let _remembering = self.0.cached.forgetting.read().unwrap_or_else(PoisonError::into_inner);
        let view = self.view();
        let record = view.access_token(hash)?.ok_or(Error::UnknownToken { soft_logout: false })?;
        if record.retires.is_some() {
            return Ok(Known::Retiring);
        }
        let seen = view.last_seen(&record.user_id, &record.device_id)?;
        let user = view.user(&record.user_id)?.ok_or(Error::UnknownToken { soft_logout: false })?;
        let session = Arc::new(SessionInfo {
            user_id: record.user_id,
            device_id: record.device_id,
            expires_at: record.expires_at,
            is_guest: user.guest,
            is_admin: user.admin,
            sanctions: user.sanctions,
            seen_at: AtomicU64::new(seen.map_or(0, |seen| seen.at.0)),
        });
        self.0.cached.sessions.insert(*hash, session.clone());
        Ok(Known::Session(session))
    }

    /// Retires what the access token replaces, now that it is used.
    async fn retire_before(&self, hash: &TokenHash) -> Result<(), Error> {
        let hash = *hash;
        self.revoke(move |changes| {
            let Some(record) = changes.view().access_token(&hash)? else { return Ok(((), Vec::new())) };
            let Some(retired) = record.retires else { return Ok(((), Vec::new())) };
            let gone = retire(changes, &retired)?;
            changes.put_access_token(&hash, &AccessTokenRecord { retires: None, ..record })?;
            Ok(((), gone.into_iter().collect()))
        })
        .await
    }

    async fn note_seen(&self, session: &SessionInfo, now: UnixMillis, address: IpAddr) -> Result<(), Error> {
        let seen_at = session.seen_at.load(Ordering::Relaxed);
        if now.since(UnixMillis(seen_at)) < self.config().sessions.last_seen_every {
            return Ok(());
        }
        let first = session.seen_at.compare_exchange(seen_at, now.0, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_err() {
            return Ok(());
        }
        let view = self.view();
        if view.device(&session.user_id, &session.device_id)?.is_none() {
            return Ok(());
        }
        let mut changes = self.0.records.changes(&view);
        let seen = LastSeen { at: now, address: address.to_canonical().to_string() };
        changes.put_last_seen(&session.user_id, &session.device_id, &seen)?;
        // Nobody was told of it: it need not be on the disk before the request goes on.
        changes.derived();
        match self.0.records.commit(changes).await {
            // The device changed meanwhile, or is gone: then it is noted next time, or never.
            Ok(_) | Err(CommitError::Conflict) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Begins a session of a user whose identity is proven.
    pub async fn begin_session(&self, user: &UserId, new: NewSession) -> Result<Login, Error> {
        self.begin_session_until(user, new, None).await
    }

    /// Begins a session that ends at a time, if one is given.
    pub async fn begin_session_until(
        &self,
        user: &UserId,
        new: NewSession,
        until: Option<UnixMillis>,
    ) -> Result<Login, Error> {
        let device_id = match new.device_id {
            Some(device) if device.as_str().len() > ID_BYTES_MAX => return Err(Error::TooLarge("the device id")),
            // Clients that have none say so in either way.
            Some(device) if !device.as_str().is_empty() => device,
            _ => base::random_string(&*self.0.random, DEVICE_ID_LENGTH).to_ascii_uppercase().into(),
        };
        if let Some(name) = &new.display_name {
            check_display_name(name)?;
        }
        let now = self.now();
        let mut tokens = self.new_tokens(new.can_refresh && until.is_none());
        tokens.lifetime = until.map(|until| until.since(now)).or(tokens.lifetime);
        let (accounts, user) = (self.clone(), user.to_owned());
        self.revoke(move |changes| {
            let record = changes.view().user(&user)?.ok_or(Error::NoSuchUser)?;
            if record.deactivated_at.is_some() {
                return Err(Error::Deactivated);
            }
            if record.sanctions.locked {
                return Err(Error::Locked);
            }
            if new.proof.as_ref().is_some_and(|proof| !proof.is_of(&record)) {
                return Err(Error::WrongPassword);
            }
            let sessions_begun = record.sessions_begun + 1;
            changes.put_user(&user, &UserRecord { sessions_begun, ..record })?;
            let gone = changes.clear_device_tokens(&user, &device_id)?;
            let device = match changes.view().device(&user, &device_id)? {
                // A dehydrated device (MSC3814) has no session.
                Some(_) if changes.view().dehydrated(&user)?.is_some_and(|it| it.device_id == device_id) => {
                    return Err(Error::DeviceIdTaken);
                }
                Some(device) => next(device),
                None if changes.view().device_count(&user, DEVICES_MAX)? >= DEVICES_MAX => {
                    return Err(Error::TooManyDevices);
                }
                // Client-server API, "Key and signature security": servers MUST NOT allow it.
                None if changes.view().cross_signing(&user)?.has_public_key(device_id.as_str()) => {
                    return Err(Error::DeviceIdTaken);
                }
                None => DeviceRecord { display_name: new.display_name.clone(), created_at: now, generation: 0 },
            };
            changes.put_device(&user, &device_id, &device)?;
            accounts.put_tokens(changes, &user, &device_id, &tokens, None)?;
            Ok((tokens.to_login(&user, &device_id), gone))
        })
        .await
    }

    /// Exchanges a refresh token for new tokens. The old one stays valid until one of the new ones is used; if
    /// it is used again before, the tokens of the first exchange are void.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Login, Error> {
        let hash = token::hash(refresh_token);
        let now = self.now();
        let tokens = self.new_tokens(true);
        let accounts = self.clone();
        self.revoke(move |changes| {
            let record = changes.view().refresh_token(&hash)?;
            let mut record = record.ok_or(Error::UnknownToken { soft_logout: false })?;
            if record.expires_at.is_some_and(|expires_at| expires_at <= now) {
                return Err(Error::UnknownToken { soft_logout: true });
            }
            let (user, device_id) = (record.user_id.clone(), record.device_id.clone());
            let device = changes.view().device(&user, &device_id)?;
            let device = device.ok_or(Error::UnknownToken { soft_logout: false })?;
            if changes.view().user(&user)?.is_some_and(|user| user.sanctions.locked) {
                return Err(Error::Locked);
            }
            changes.put_device(&user, &device_id, &next(device))?;
            let mut gone = Vec::new();
            if let Some((access, refresh)) = record.successor.take() {
                changes.clear_access_token(&access, &user, &device_id);
                changes.clear_refresh_token(&refresh, &user, &device_id);
                gone.push(access);
            }
            if let Some(retired) = record.retires.take() {
                gone.extend(retire(changes, &retired)?);
            }
            record.successor = tokens.refresh.as_ref().map(|(_, refresh)| (tokens.access.1, *refresh));
            changes.put_refresh_token(&hash, &record)?;
            accounts.put_tokens(changes, &user, &device_id, &tokens, Some(hash))?;
            Ok((tokens.to_login(&user, &device_id), gone))
        })
        .await
    }

    fn new_tokens(&self, can_refresh: bool) -> NewTokens {
        let random = &*self.0.random;
        let sessions = &self.config().sessions;
        NewTokens {
            access: token::new(random, ACCESS_PREFIX),
            refresh: can_refresh.then(|| token::new(random, REFRESH_PREFIX)),
            lifetime: if can_refresh { Some(sessions.access_token_lifetime) } else { sessions.unrefreshable_lifetime },
        }
    }

    fn put_tokens(
        &self,
        changes: &mut Changes,
        user: &UserId,
        device: &OwnedDeviceId,
        tokens: &NewTokens,
        retires: Option<TokenHash>,
    ) -> Result<(), Error> {
        let now = self.now();
        let access = AccessTokenRecord {
            user_id: user.to_owned(),
            device_id: device.clone(),
            expires_at: tokens.lifetime.map(|lifetime| now.after(lifetime)),
            retires,
        };
        changes.put_access_token(&tokens.access.1, &access)?;
        if let Some((_, hash)) = &tokens.refresh {
            let lifetime = self.config().sessions.refresh_token_lifetime;
            let refresh = RefreshTokenRecord {
                user_id: user.to_owned(),
                device_id: device.clone(),
                expires_at: lifetime.map(|lifetime| now.after(lifetime)),
                access_token: tokens.access.1,
                retires,
                successor: None,
            };
            changes.put_refresh_token(hash, &refresh)?;
        }
        Ok(())
    }
}

enum Known {
    Session(Arc<SessionInfo>),
    /// The token is known, but what it replaces is not retired yet.
    Retiring,
}

impl NewTokens {
    fn to_login(&self, user_id: &UserId, device_id: &DeviceId) -> Login {
        Login {
            user_id: user_id.to_owned(),
            device_id: device_id.to_owned(),
            access_token: self.access.0.clone(),
            refresh_token: self.refresh.as_ref().map(|(token, _)| token.clone()),
            expires_in: self.lifetime,
        }
    }
}

/// Removes a refresh token and the access token that came with it, which is returned.
fn retire(changes: &mut Changes, hash: &TokenHash) -> Result<Option<TokenHash>, Error> {
    let Some(record) = changes.refresh_token(hash)? else { return Ok(None) };
    changes.clear_access_token(&record.access_token, &record.user_id, &record.device_id);
    changes.clear_refresh_token(hash, &record.user_id, &record.device_id);
    Ok(Some(record.access_token))
}

fn next(device: DeviceRecord) -> DeviceRecord {
    DeviceRecord { generation: device.generation.wrapping_add(1), ..device }
}
