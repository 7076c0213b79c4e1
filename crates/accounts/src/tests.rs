//! Accounts over the memory engine. What clients see of them is tested with the client API.

use crate::{
    ACCOUNT_DATA_BYTES_MAX, ACCOUNT_DATA_ENTRIES_MAX, ACCOUNT_DATA_TOTAL_BYTES_MAX, Accounts, Config, DEVICES_MAX,
    EndSessions, Erase, Error, FILTERS_MAX, NewSession, NewUser, SessionInfo,
};
use base::config::ByteSize;
use base::{FakeClock, Secret, SeededRandom, Stamp, UnixMillis};
use records::Records;
use ruma::{OwnedRoomId, OwnedUserId, owned_server_name, room_id};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use store::{Batch, CommitError, Engine, MemoryEngine, Snapshot, Stamps};
use tokio::sync::watch;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct Agency {
    clock: Arc<FakeClock>,
    records: Records,
    accounts: Accounts,
}

async fn agency(change: impl FnOnce(&mut Config)) -> Agency {
    agency_over(Arc::new(MemoryEngine::new()), change).await
}

async fn agency_over(engine: Arc<dyn Engine>, change: impl FnOnce(&mut Config)) -> Agency {
    let mut config = Config::default();
    config.password.argon2_memory = ByteSize::kib(8);
    config.password.argon2_passes = 1;
    change(&mut config);
    let clock = Arc::new(FakeClock::new(UnixMillis(1_000_000)));
    let records = Records::open(engine).await.unwrap();
    let (server_name, random) = (owned_server_name!("example.org"), Arc::new(SeededRandom::new(1)));
    let accounts = Accounts::open(records.clone(), server_name, clock.clone(), random, config).unwrap();
    Agency { clock, records, accounts }
}

/// Commits at once, but tells only later that it has.
struct Late(MemoryEngine);

impl Engine for Late {
    fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.0.snapshot()
    }

    fn commit(&self, batch: Batch) -> Pin<Box<dyn Future<Output = Result<Stamps, CommitError>> + Send>> {
        let commit = self.0.commit(batch);
        Box::pin(async move {
            let outcome = commit.await;
            tokio::task::yield_now().await;
            outcome
        })
    }

    fn newest(&self) -> watch::Receiver<Stamp> {
        self.0.newest()
    }
}

/// Starts a request and hangs up.
async fn cut_off<T>(request: impl Future<Output = T>) {
    let mut request = Box::pin(request);
    let first = std::future::poll_fn(|context| Poll::Ready(request.as_mut().poll(context).is_pending())).await;
    assert!(first, "the request was done at once");
    drop(request);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

fn secret(password: &str) -> Secret<String> {
    Secret::new(password.to_owned())
}

impl Agency {
    async fn user(&self, name: &str) -> OwnedUserId {
        let user_id = self.accounts.available(name).unwrap();
        let password = Some(secret("correct horse"));
        let user = NewUser { user_id: user_id.clone(), password, accepted_terms: false, admin: false };
        self.accounts.create_user(user).await.unwrap();
        user_id
    }

    async fn begin(&self, user: &OwnedUserId) -> String {
        self.accounts.begin_session(user, NewSession::default()).await.unwrap().access_token
    }

    async fn who(&self, token: &str) -> Result<Arc<SessionInfo>, Error> {
        self.accounts.authenticate(token, HERE).await
    }
}

#[tokio::test]
async fn a_name_is_a_localpart_or_an_id_of_this_agency_in_small_letters() {
    let agency = agency(|_| {}).await;
    for name in ["alice", "ALICE", "@alice:example.org"] {
        assert_eq!(agency.accounts.user_id(name).unwrap(), "@alice:example.org");
    }
    assert_eq!(agency.accounts.user_id("a.b_c=d-e/f+9").unwrap(), "@a.b_c=d-e/f+9:example.org");
    for name in ["", "@", "@:example.org", "@alice", "@alice:other.org", "a b", "a:b", "é", &"a".repeat(243)] {
        assert!(matches!(agency.accounts.user_id(name), Err(Error::InvalidUsername(_))), "{name}");
    }
    assert!(agency.accounts.user_id(&"a".repeat(242)).is_ok());
    assert!(agency.accounts.user_id(&agency.accounts.made_up_name()).is_ok());
}

#[tokio::test]
async fn of_two_who_take_a_name_at_once_one_gets_it() {
    let agency = agency(|_| {}).await;
    let user_id = agency.accounts.available("alice").unwrap();
    let take = || NewUser { user_id: user_id.clone(), password: None, accepted_terms: false, admin: false };
    let (one, two) = tokio::join!(agency.accounts.create_user(take()), agency.accounts.create_user(take()));
    assert!(one.is_ok() != two.is_ok());
    assert!(matches!(one.and(two), Err(Error::UserInUse)));
}

#[tokio::test]
async fn passwords_are_kept_as_hashes_that_say_their_costs() {
    let agency = agency(|_| {}).await;
    let user = agency.user("alice").await;
    let hash = agency.accounts.user(&user).unwrap().unwrap().password.unwrap();
    assert!(hash.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{hash}");
    agency.accounts.check_password(&user, secret("correct horse")).await.unwrap();
    for wrong in ["", "correct horsf", &"x".repeat(2000)] {
        let error = agency.accounts.check_password(&user, secret(wrong)).await.unwrap_err();
        assert!(matches!(error, Error::WrongPassword));
    }
    let nobody = agency.accounts.user_id("nobody").unwrap();
    let error = agency.accounts.check_password(&nobody, secret("correct horse")).await.unwrap_err();
    assert!(matches!(error, Error::WrongPassword));
}

#[tokio::test]
async fn a_user_without_a_password_cannot_log_in_with_one() {
    let agency = agency(|_| {}).await;
    let user_id = agency.accounts.available("bot").unwrap();
    let user = NewUser { user_id: user_id.clone(), password: None, accepted_terms: false, admin: false };
    agency.accounts.create_user(user).await.unwrap();
    let error = agency.accounts.check_password(&user_id, secret("")).await.unwrap_err();
    assert!(matches!(error, Error::WrongPassword));
}

#[tokio::test]
async fn an_operator_lists_users_resets_passwords_and_deactivates() {
    let agency = agency(|_| {}).await;
    let mut users = Vec::new();
    for name in ["carol", "alice", "bob"] {
        users.push(agency.user(name).await);
    }
    let listed = agency.accounts.users(None, 2).unwrap();
    let names: Vec<_> = listed.iter().map(|(user, _)| user.localpart()).collect();
    assert_eq!(names, ["alice", "bob"]);
    let listed = agency.accounts.users(Some(&listed[1].0), 2).unwrap();
    assert_eq!(listed[0].0, users[0]);

    let alice = &users[1];
    let token = agency.begin(alice).await;
    agency.who(&token).await.unwrap();
    agency.accounts.set_password(alice, secret("battery staple"), EndSessions::All).await.unwrap();
    assert!(matches!(agency.who(&token).await, Err(Error::UnknownToken { soft_logout: false })));
    agency.accounts.check_password(alice, secret("battery staple")).await.unwrap();

    let token = agency.begin(alice).await;
    agency.accounts.deactivate(alice, Erase::Nothing).await.unwrap();
    assert!(agency.who(&token).await.is_err());
    assert!(agency.accounts.devices(alice).unwrap().is_empty());
    let again = agency.accounts.begin_session(alice, NewSession::default()).await;
    assert!(matches!(again, Err(Error::Deactivated)));
    let reset = agency.accounts.set_password(alice, secret("another one"), EndSessions::None).await;
    assert!(matches!(reset, Err(Error::Deactivated)));
    let nobody = agency.accounts.user_id("nobody").unwrap();
    assert!(matches!(agency.accounts.deactivate(&nobody, Erase::Nothing).await, Err(Error::NoSuchUser)));
}

#[tokio::test]
async fn tokens_are_not_stored_and_survive_a_restart() {
    let agency = agency(|_| {}).await;
    let user = agency.user("alice").await;
    let token = agency.begin(&user).await;
    assert!(token.starts_with("cha_") && token.len() == 47, "{token}");
    let again = Accounts::open(
        agency.records.clone(),
        owned_server_name!("example.org"),
        agency.clock.clone(),
        Arc::new(SeededRandom::new(2)),
        agency.accounts.config().clone(),
    )
    .unwrap();
    assert_eq!(again.authenticate(&token, HERE).await.unwrap().user_id, user);
}

#[tokio::test]
async fn a_refresh_and_the_first_use_of_what_it_gave_do_not_both_win() {
    let agency = agency(|_| {}).await;
    let user = agency.user("alice").await;
    let new = NewSession { can_refresh: true, ..NewSession::default() };
    let first = agency.accounts.begin_session(&user, new).await.unwrap().refresh_token.unwrap();
    let second = agency.accounts.refresh(&first).await.unwrap();
    let (used, refreshed) = tokio::join!(agency.who(&second.access_token), agency.accounts.refresh(&first));
    assert!(used.is_ok() != refreshed.is_ok());
}

#[tokio::test]
async fn an_access_token_expires_when_it_should_though_it_is_remembered() {
    let agency = agency(|_| {}).await;
    let user = agency.user("alice").await;
    let new = NewSession { can_refresh: true, ..NewSession::default() };
    let login = agency.accounts.begin_session(&user, new).await.unwrap();
    assert_eq!(login.expires_in, Some(Duration::from_hours(1)));
    agency.who(&login.access_token).await.unwrap();
    agency.clock.advance(Duration::from_mins(59));
    agency.who(&login.access_token).await.unwrap();
    agency.clock.advance(Duration::from_mins(1));
    assert!(matches!(agency.who(&login.access_token).await, Err(Error::UnknownToken { soft_logout: true })));
}

#[tokio::test]
async fn a_user_stores_only_so_many_filters() {
    let agency = agency(|_| {}).await;
    let user = agency.user("alice").await;
    for limit in 0..FILTERS_MAX {
        let filter = format!("{{\"room\":{{\"timeline\":{{\"limit\":{limit}}}}}}}");
        agency.accounts.create_filter(&user, &filter).await.unwrap();
    }
    let known = "{\"room\":{\"timeline\":{\"limit\":0}}}";
    agency.accounts.create_filter(&user, known).await.unwrap();
    assert!(matches!(agency.accounts.create_filter(&user, "{}").await, Err(Error::TooLarge(_))));
}

#[tokio::test]
async fn a_profile_says_whether_it_changed() {
    let agency = agency(|_| {}).await;
    let user = agency.user("alice").await;
    let set = async |value| agency.accounts.set_profile_field(&user, "displayname", value).await.unwrap();
    assert!(set(Some("\"A\"")).await);
    assert!(!set(Some("\"A\"")).await);
    assert!(set(None).await);
    assert!(!set(None).await);
    let nobody = agency.accounts.user_id("nobody").unwrap();
    let set = agency.accounts.set_profile_field(&nobody, "displayname", None).await;
    assert!(matches!(set, Err(Error::NoSuchUser)));
}

#[tokio::test]
async fn a_session_has_ended_though_the_client_that_ended_it_hung_up() {
    let agency = agency_over(Arc::new(Late(MemoryEngine::new())), |_| {}).await;
    let user = agency.user("alice").await;
    let remembered = async || {
        let token = agency.begin(&user).await;
        agency.who(&token).await.unwrap();
        (agency.who(&token).await.unwrap().device_id.clone(), token)
    };
    let (device, token) = remembered().await;
    cut_off(agency.accounts.remove_devices(&user, std::slice::from_ref(&device))).await;
    assert!(agency.who(&token).await.is_err());

    let (_, token) = remembered().await;
    cut_off(agency.accounts.remove_all_devices(&user)).await;
    assert!(agency.who(&token).await.is_err());

    let (device, token) = remembered().await;
    let new = NewSession { device_id: Some(device), ..NewSession::default() };
    cut_off(agency.accounts.begin_session(&user, new)).await;
    assert!(agency.who(&token).await.is_err());

    let (_, token) = remembered().await;
    cut_off(agency.accounts.deactivate(&user, Erase::Nothing)).await;
    assert!(agency.who(&token).await.is_err());
}

#[tokio::test]
async fn a_password_that_is_replaced_between_its_check_and_the_login_begins_no_session() {
    let agency = agency(|_| {}).await;
    let user = agency.user("alice").await;
    let proof = Some(agency.accounts.check_password(&user, secret("correct horse")).await.unwrap());
    let new = NewSession { proof, ..NewSession::default() };
    agency.accounts.begin_session(&user, new.clone()).await.unwrap();
    agency.accounts.set_password(&user, secret("battery staple"), EndSessions::All).await.unwrap();
    assert!(matches!(agency.accounts.begin_session(&user, new).await, Err(Error::WrongPassword)));
    assert!(agency.accounts.devices(&user).unwrap().is_empty());
}

#[tokio::test]
async fn a_user_has_only_so_many_devices_and_all_of_them_end_at_once() {
    let agency = agency(|_| {}).await;
    let user = agency.user(&"a".repeat(242)).await;
    let new = |number: usize| NewSession {
        device_id: Some(format!("{number:0>255}").into()),
        display_name: Some("n".repeat(1000)),
        can_refresh: true,
        proof: None,
    };
    let mut last = None;
    for number in 0..DEVICES_MAX {
        let login = agency.accounts.begin_session(&user, new(number)).await.unwrap();
        let login = agency.accounts.refresh(&login.refresh_token.unwrap()).await.unwrap();
        agency.who(&login.access_token).await.unwrap();
        last = Some(agency.accounts.refresh(&login.refresh_token.unwrap()).await.unwrap());
    }
    let refused = agency.accounts.begin_session(&user, new(DEVICES_MAX)).await;
    assert!(matches!(refused, Err(Error::TooManyDevices)));
    agency.accounts.begin_session(&user, new(0)).await.unwrap();
    agency.accounts.deactivate(&user, Erase::Everything).await.unwrap();
    assert!(agency.accounts.devices(&user).unwrap().is_empty());
    assert!(agency.who(&last.unwrap().access_token).await.is_err());
}

#[tokio::test]
async fn a_user_has_only_so_many_pieces_of_account_data() {
    let agency = agency(|_| {}).await;
    let user = agency.user("alice").await;
    for number in 0..ACCOUNT_DATA_ENTRIES_MAX {
        agency.accounts.set_account_data(&user, None, &number.to_string(), "{\"n\":1}").await.unwrap();
    }
    let refused = agency.accounts.set_account_data(&user, None, "more", "{\"n\":1}").await;
    assert!(matches!(refused, Err(Error::TooLarge(_))));
    agency.accounts.set_account_data(&user, None, "7", "{\"n\":1}").await.unwrap();
    let bob = agency.user("bob").await;
    agency.accounts.set_account_data(&bob, None, "more", "{\"n\":1}").await.unwrap();
}

#[tokio::test]
async fn a_user_has_only_so_many_bytes_of_account_data_over_all_rooms() {
    let agency = agency(|_| {}).await;
    let user = agency.user("alice").await;
    let content = format!("{{\"a\":\"{}\"}}", "a".repeat(ACCOUNT_DATA_BYTES_MAX - 8));
    let fit = ACCOUNT_DATA_TOTAL_BYTES_MAX / u64::try_from(ACCOUNT_DATA_BYTES_MAX).unwrap() - 1;
    for number in 0..fit {
        let room = OwnedRoomId::try_from(format!("!{number}:example.org")).unwrap();
        agency.accounts.set_account_data(&user, Some(&room), "large", &content).await.unwrap();
    }
    let room = room_id!("!0:example.org");
    let set = async |kind, content| agency.accounts.set_account_data(&user, Some(room), kind, content).await;
    assert!(matches!(set("more", &content).await, Err(Error::TooLarge(_))));
    set("large", "{}").await.unwrap();
    set("more", &content).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_that_begins_meanwhile_outlives_the_account() {
    for _ in 0..20 {
        let agency = agency(|_| {}).await;
        let user = agency.user("alice").await;
        let mut logins = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let (accounts, user) = (agency.accounts.clone(), user.clone());
            logins.spawn(async move { accounts.begin_session(&user, NewSession::default()).await });
        }
        // However often it conflicts with a login, in the end it is done or says that it is not.
        while agency.accounts.deactivate(&user, Erase::Nothing).await.is_err() {}
        for login in logins.join_all().await.into_iter().flatten() {
            assert!(agency.who(&login.access_token).await.is_err());
        }
        assert!(agency.accounts.devices(&user).unwrap().is_empty());
    }
}
