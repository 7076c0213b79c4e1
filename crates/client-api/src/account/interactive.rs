//! User-interactive authentication: proving who one is, in stages, within one request (client-server API,
//! "User-Interactive Authentication API"). The pages for clients that don't know a stage are in [`super::fallback`].

use crate::limits::Class;
use crate::session::{ClientAddress, Session};
use crate::wire::{read, refuse_json};
use crate::{ApiError, State};
use accounts::{Error as AccountsError, ProvenAddress, RegistrationMode};
use axum::extract::{FromRequest, Request};
use base::{Secret, UnixMillis, random_string};
use quick_cache::sync::Cache;
use records::Purpose;
use ruma::{OwnedUserId, UserId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How many authentications are under way at once; beyond that, those that were started or used longest ago go.
const SESSIONS_MAX: usize = 10_000;
/// How long one may take: to read the terms, to look for the password.
const SESSION_AGE_MAX: Duration = Duration::from_mins(30);
/// The length of a session's id.
const SESSION_ID_LENGTH: usize = 24;

/// A stage of an authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing has to be proven.
    Dummy,
    /// The user's password.
    Password,
    /// A token that the operator has given out.
    RegistrationToken,
    /// The policies are accepted.
    Terms,
    /// A mail address is proven to be theirs, for this purpose.
    Email(Purpose),
}

impl Stage {
    /// The type as which the specification knows it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dummy => "m.login.dummy",
            Self::Password => "m.login.password",
            Self::RegistrationToken => "m.login.registration_token",
            Self::Terms => "m.login.terms",
            Self::Email(_) => "m.login.email.identity",
        }
    }
}

/// The authentications that are under way. They are this process's: one that is cut off begins anew.
pub struct Interactive(Cache<String, Arc<Mutex<Underway>>>);

impl Default for Interactive {
    fn default() -> Self {
        Self(Cache::new(SESSIONS_MAX))
    }
}

#[derive(Debug)]
struct Underway {
    endpoint: [u8; 32],
    /// Whose session it is that asks, where one does: nobody goes on with what another has proven.
    user: Option<OwnedUserId>,
    flow: Vec<Stage>,
    completed: usize,
    begun_at: UnixMillis,
    /// The registration token that was valid when it was given: it is used up with the account that it makes.
    token: Option<String>,
    /// The address that was proven.
    address: Option<ProvenAddress>,
}

/// A request that was authenticated.
#[derive(Debug)]
pub(crate) struct Passed<T> {
    /// Its body.
    pub body: T,
    /// The registration token that it uses up.
    pub token: Option<String>,
    /// The mail address that was proven in a stage of it.
    pub address: Option<ProvenAddress>,
}

/// A request that has to be authenticated: its body without `auth`, and `auth`.
#[derive(Debug)]
pub(crate) struct Challenged<T> {
    /// The body.
    pub body: T,
    /// What the client says to prove who it is. `None` begins the authentication.
    auth: Option<Auth>,
    /// The hash of method and path: an authentication is good for one endpoint. The body is not bound, since
    /// clients in service say more in the second request than in the first (a device's name, for example).
    endpoint: [u8; 32],
}

#[derive(Debug, Default, Deserialize)]
struct Auth {
    #[serde(rename = "type")]
    kind: Option<String>,
    session: Option<String>,
    identifier: Option<Identifier>,
    /// Older clients put the user here instead of into the identifier.
    user: Option<String>,
    password: Option<Secret<String>>,
    token: Option<String>,
    #[serde(alias = "threepidCreds")]
    threepid_creds: Option<ThreepidCredentials>,
}

/// How a client names a proof.
#[derive(Debug, Deserialize)]
struct ThreepidCredentials {
    sid: String,
    client_secret: String,
}

/// Whom a client means (client-server API, "Identifier types").
#[derive(Debug, Deserialize)]
pub(crate) struct Identifier {
    #[serde(rename = "type")]
    kind: String,
    user: Option<String>,
    medium: Option<String>,
    address: Option<String>,
    phone: Option<String>,
    /// What `phone` was called once.
    number: Option<String>,
}

impl Identifier {
    /// The name of the user. Of an identifier that is nobody's, it is a name that is nobody's: the password is checked
    /// all the same, so that who has an account here can't be told by the time it takes.
    pub fn user(self, state: &State) -> Result<String, ApiError> {
        match (self.kind.as_str(), self.user) {
            ("m.id.user", Some(user)) => Ok(user),
            ("m.id.user", None) => Err(ApiError::missing_param("the identifier names no user")),
            ("m.id.thirdparty", _) => {
                let (Some(medium), Some(address)) = (self.medium, self.address) else {
                    return Err(ApiError::missing_param("the identifier has no medium or no address"));
                };
                holder(state, &medium, &address)
            }
            ("m.id.phone", _) => {
                let phone = self.phone.or(self.number).ok_or_else(|| ApiError::missing_param("phone is missing"))?;
                let digits: String = phone.chars().filter(char::is_ascii_digit).collect();
                holder(state, "msisdn", &digits)
            }
            _ => Err(ApiError::invalid_param("the type of the identifier is not known")),
        }
    }
}

/// The name of whom an identifier belongs to.
pub(super) fn holder(state: &State, medium: &str, address: &str) -> Result<String, ApiError> {
    let holder = match super::threepid::canonical(medium, address) {
        Some(address) => state.accounts.threepid_user(medium, &address)?,
        None => None,
    };
    Ok(holder.map_or_else(|| state.accounts.made_up_name(), String::from))
}

impl<T: DeserializeOwned> FromRequest<Arc<State>> for Challenged<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &Arc<State>) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let body = read(body, state.config.body_bytes_max.bytes()).await?;
        let mut body: Map<String, Value> = if body.is_empty() {
            Map::new()
        } else {
            serde_json::from_slice(&body).map_err(|error| refuse_json(&error))?
        };
        // Clients that have nothing to say yet leave it out, or send null or an empty object.
        let auth = match body.remove("auth") {
            None | Some(Value::Null) => None,
            Some(Value::Object(auth)) if auth.is_empty() => None,
            Some(auth) => Some(serde_json::from_value(auth).map_err(|error| refuse_json(&error))?),
        };
        let endpoint = Sha256::digest(format!("{} {}", parts.method, parts.uri.path()));
        let body = serde_json::from_value(Value::Object(body)).map_err(|error| refuse_json(&error))?;
        Ok(Self { body, auth, endpoint: endpoint.into() })
    }
}

impl<T> Challenged<T> {
    /// Whether the client tries to prove something with this request.
    pub fn tries(&self) -> bool {
        self.auth.is_some()
    }

    /// The body, if whoever asks proves to be the user of the session, by their password.
    pub async fn password_of(self, state: &State, session: &Session) -> Result<T, ApiError> {
        Ok(self.pass(state, &[Stage::Password], Some(session)).await?.body)
    }

    /// The body, if whoever asks proves that a mail address is theirs, to set a new password.
    pub async fn address_for_reset(self, state: &State, address: ClientAddress) -> Result<Passed<T>, ApiError> {
        if self.tries() {
            state.limits.address(Class::Login, address)?;
        }
        self.pass(state, &[Stage::Email(Purpose::Reset)], None).await
    }

    /// The request, if whoever asks may register.
    pub async fn may_register(self, state: &State, address: ClientAddress) -> Result<Passed<T>, ApiError> {
        let registration = &state.accounts.config().registration;
        let mut flow = Vec::new();
        match registration.mode {
            RegistrationMode::Closed => return Err(ApiError::forbidden("registration is disabled")),
            RegistrationMode::Token => flow.push(Stage::RegistrationToken),
            RegistrationMode::Open => {}
        }
        if !registration.terms.is_empty() {
            flow.push(Stage::Terms);
        }
        if state.accounts.config().addresses.required {
            if state.mail.is_none() {
                return Err(ApiError::forbidden(
                    "registration needs an e-mail address, and this server sends no mails",
                ));
            }
            flow.push(Stage::Email(Purpose::Register));
        }
        if flow.is_empty() {
            flow.push(Stage::Dummy);
        }
        if self.tries() {
            state.limits.address(Class::Registration, address)?;
        }
        self.pass(state, &flow, None).await
    }

    /// Goes on with the authentication: the request if all stages are complete, with what was given in them, and what
    /// is still wanted if not.
    async fn pass(self, state: &State, flow: &[Stage], session: Option<&Session>) -> Result<Passed<T>, ApiError> {
        let user = session.map(|session| &*session.user_id);
        let challenge = |id: &str, completed: usize, failed| challenge(state, flow, id, completed, failed);
        let begin = |failed| {
            let id = random_string(&*state.random, SESSION_ID_LENGTH);
            let underway = Underway {
                endpoint: self.endpoint,
                user: user.map(ToOwned::to_owned),
                flow: flow.to_vec(),
                completed: 0,
                begun_at: state.clock.now(),
                token: None,
                address: None,
            };
            state.interactive.0.insert(id.clone(), Arc::new(Mutex::new(underway)));
            (id, failed)
        };
        let Some(auth) = self.auth else {
            let (id, failed) = begin(None);
            return Err(challenge(&id, 0, failed));
        };
        // A client that knows what will be asked may come with the answer at once, without a session.
        let id = match auth.session.clone() {
            Some(id) => id,
            None => begin(None).0,
        };
        let Some(underway) = state.interactive.find(state, &id) else {
            let (id, failed) = begin(Some(("M_UNKNOWN", "the session is not known or has expired".into())));
            return Err(challenge(&id, 0, failed));
        };
        {
            let underway = underway.lock().unwrap_or_else(PoisonError::into_inner);
            if underway.endpoint != self.endpoint || underway.user.as_deref() != user || underway.flow != flow {
                return Err(ApiError::forbidden("this authentication began at another endpoint, or for another user"));
            }
        }
        match attempt(state, &underway, auth).await? {
            (completed, Some(failed)) => Err(challenge(&id, completed, Some(failed))),
            (completed, None) if completed < flow.len() => Err(challenge(&id, completed, None)),
            _ => {
                state.interactive.0.remove(&id);
                let mut underway = underway.lock().unwrap_or_else(PoisonError::into_inner);
                let (token, address) = (underway.token.take(), underway.address.take());
                Ok(Passed { body: self.body, token, address })
            }
        }
    }
}

impl Interactive {
    /// An authentication that is under way and has not expired.
    fn find(&self, state: &State, id: &str) -> Option<Arc<Mutex<Underway>>> {
        let underway = self.0.get(id)?;
        let begun_at = underway.lock().unwrap_or_else(PoisonError::into_inner).begun_at;
        if state.clock.now().since(begun_at) > SESSION_AGE_MAX {
            self.0.remove(id);
            return None;
        }
        Some(underway)
    }
}

/// Where an authentication is with a stage of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// There is no such authentication, or not any more.
    Unknown,
    /// It has no such stage.
    NotAsked,
    /// Another stage comes before.
    NotYet,
    /// The stage is the next; of the password, this user's.
    Next(Stage, Option<OwnedUserId>),
    /// The stage is complete.
    Complete,
}

/// Where an authentication is with the stage of this type.
pub(super) fn progress(state: &State, id: &str, kind: &str) -> Progress {
    let Some(underway) = state.interactive.find(state, id) else { return Progress::Unknown };
    let underway = underway.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(place) = underway.flow.iter().position(|stage| stage.name() == kind) else { return Progress::NotAsked };
    match underway.flow.get(underway.completed) {
        Some(next) if next.name() == kind => Progress::Next(*next, underway.user.clone()),
        _ if place < underway.completed => Progress::Complete,
        _ => Progress::NotYet,
    }
}

/// Tries to complete a stage with what somebody has typed into a page: the text that the stage asks for. Where the
/// authentication is with it then.
pub(super) async fn submit(state: &State, id: &str, kind: &str, text: Option<String>) -> Result<Progress, ApiError> {
    let Some(underway) = state.interactive.find(state, id) else { return Ok(Progress::Unknown) };
    let Progress::Next(stage, user) = progress(state, id, kind) else { return Ok(progress(state, id, kind)) };
    let mut auth = Auth { kind: Some(kind.to_owned()), user: user.map(String::from), ..Auth::default() };
    match stage {
        Stage::Password => auth.password = text.map(Secret::new),
        Stage::RegistrationToken => auth.token = text,
        Stage::Dummy | Stage::Terms | Stage::Email(_) => {}
    }
    match attempt(state, &underway, auth).await? {
        (_, Some((_, message))) => Err(ApiError::forbidden(message)),
        (_, None) => Ok(progress(state, id, kind)),
    }
}

type Failed = (&'static str, Cow<'static, str>);

/// Tries the next stage, if `auth` is for one. How many are complete then, and why it failed if it did.
async fn attempt(state: &State, underway: &Mutex<Underway>, auth: Auth) -> Result<(usize, Option<Failed>), ApiError> {
    let (flow, completed, user) = {
        let underway = underway.lock().unwrap_or_else(PoisonError::into_inner);
        (underway.flow.clone(), underway.completed, underway.user.clone())
    };
    // Without a type the client only asks how far it is; a stage that is complete is not done again.
    let (Some(kind), Some(next)) = (&auth.kind, flow.get(completed)) else { return Ok((completed, None)) };
    if flow.iter().take(completed).any(|stage| stage.name() == kind) {
        return Ok((completed, None));
    }
    if kind != next.name() {
        return Ok((completed, Some(("M_FORBIDDEN", format!("the next stage is {}", next.name()).into()))));
    }
    let token = auth.token.clone().filter(|_| *next == Stage::RegistrationToken);
    let address = match prove(state, *next, auth, user.as_deref()).await? {
        Ok(address) => address,
        Err(failed) => return Ok((completed, Some(failed))),
    };
    let mut underway = underway.lock().unwrap_or_else(PoisonError::into_inner);
    underway.completed = underway.completed.max(completed + 1);
    underway.token = token.or(underway.token.take());
    underway.address = address.or(underway.address.take());
    Ok((underway.completed, None))
}

/// Tries one stage. The outer error ends the request; the inner one lets the client try again.
async fn prove(
    state: &State,
    stage: Stage,
    auth: Auth,
    user: Option<&UserId>,
) -> Result<Result<Option<ProvenAddress>, Failed>, ApiError> {
    match stage {
        Stage::Dummy | Stage::Terms => Ok(Ok(None)),
        Stage::Email(purpose) => {
            let credentials =
                auth.threepid_creds.ok_or_else(|| ApiError::missing_param("threepid_creds is missing"))?;
            let proven = state.accounts.proven_address(&credentials.sid, &credentials.client_secret, purpose);
            match proven {
                Ok(Some(proven)) => Ok(Ok(Some(proven))),
                Ok(None) | Err(AccountsError::NoSuchValidation | AccountsError::ValidationExpired) => {
                    Ok(Err(("M_UNAUTHORIZED", "the address is not confirmed: follow the link in the mail".into())))
                }
                Err(error) => Err(error.into()),
            }
        }
        Stage::RegistrationToken => {
            let token = auth.token.ok_or_else(|| ApiError::missing_param("the token is missing"))?;
            let known = state.accounts.is_registration_token(&token)?;
            Ok(if known { Ok(None) } else { Err(("M_UNAUTHORIZED", "the token is not valid".into())) })
        }
        Stage::Password => {
            let Some(user) = user else { return Err(ApiError::missing_token()) };
            state.limits.user(Class::Login, user)?;
            let name = match (auth.identifier, auth.user) {
                (Some(identifier), _) => identifier.user(state)?,
                (None, Some(user)) => user,
                (None, None) => return Err(ApiError::missing_param("the identifier is missing")),
            };
            let password = auth.password.ok_or_else(|| ApiError::missing_param("the password is missing"))?;
            if !is_same(state, &name, user) {
                // Nothing that the client could try instead: not another round of the authentication.
                return Err(ApiError::forbidden("the session is another user's"));
            }
            match state.accounts.check_password(user, password).await {
                Ok(_) => Ok(Ok(None)),
                Err(error @ AccountsError::WrongPassword) => Ok(Err(("M_FORBIDDEN", error.to_string().into()))),
                Err(error) => Err(error.into()),
            }
        }
    }
}

fn is_same(state: &State, name: &str, user: &UserId) -> bool {
    state.accounts.user_id(name).is_ok_and(|named| named == user)
}

fn challenge(state: &State, flow: &[Stage], id: &str, completed: usize, failed: Option<Failed>) -> ApiError {
    let names = |stages: &[Stage]| stages.iter().map(|stage| json!(stage.name())).collect::<Value>();
    let mut params = Map::new();
    if flow.contains(&Stage::Terms) {
        params.insert(Stage::Terms.name().to_owned(), json!({ "policies": policies(state) }));
    }
    let mut fields = Map::new();
    fields.insert("session".to_owned(), json!(id));
    fields.insert("flows".to_owned(), json!([{ "stages": names(flow) }]));
    fields.insert("params".to_owned(), Value::Object(params));
    if completed > 0 {
        fields.insert("completed".to_owned(), names(flow.get(..completed).unwrap_or(flow)));
    }
    ApiError::interactive(fields, failed)
}

/// The policies as `m.login.terms` shows them: by name, each with its version and its languages.
fn policies(state: &State) -> Map<String, Value> {
    let mut policies = Map::new();
    for terms in &state.accounts.config().registration.terms {
        let policy = policies.entry(terms.policy.clone()).or_insert_with(|| json!({ "version": terms.version }));
        if let Some(policy) = policy.as_object_mut() {
            policy.insert(terms.language.clone(), json!({ "name": terms.name, "url": terms.url }));
        }
    }
    policies
}
