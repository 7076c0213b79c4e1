//! Addresses as users prove, add and use them; what would be mailed comes out of a channel.

use crate::Mail;
use crate::testing::{Answer, PASSWORD, Server, User};
use axum::body::Body;
use http::header::CONTENT_TYPE;
use http::{Method, Request};
use mailer::{Mailer, Rendered};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

const V3: &str = "/_matrix/client/v3";

struct World {
    server: Server,
    mails: UnboundedReceiver<Rendered>,
}

impl World {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut accounts::Config)) -> Self {
        let (mailer, mails) = Mailer::to_channel("example.org");
        let mail = Mail { mailer, base_url: "https://matrix.example.org".to_owned() };
        let server = Server::with_mail(mail, change).await;
        Self { server, mails }
    }

    async fn ask(&self, path: &str, email: &str, attempt: u64) -> Answer {
        let body = json!({"client_secret": "s3cret", "email": email, "send_attempt": attempt});
        self.server.post(&format!("{V3}{path}/email/requestToken"), None, &body).await
    }

    /// The path of the link in the next mail.
    async fn link(&mut self) -> String {
        let mail = self.mails.recv().await.unwrap();
        let at = mail.text.find("https://matrix.example.org").unwrap();
        let link = mail.text[at..].split_whitespace().next().unwrap();
        link.strip_prefix("https://matrix.example.org").unwrap().to_owned()
    }

    /// Presses the button on the page that a link leads to.
    async fn press(&self, link: &str) -> Answer {
        let request = Request::builder().method(Method::POST).uri(link);
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.server.answer(request.body(Body::empty()).unwrap()).await
    }

    async fn add(&self, user: &User, sid: &Value) -> Answer {
        let body = json!({
            "client_secret": "s3cret",
            "sid": sid,
            "auth": {"type": "m.login.password", "password": PASSWORD,
                     "identifier": {"type": "m.id.user", "user": user.id}},
        });
        self.server.post(&format!("{V3}/account/3pid/add"), Some(&user.token), &body).await
    }

    /// Gives a user an address.
    async fn give(&mut self, user: &User, email: &str) {
        let sid = self.ask("/account/3pid", email, 1).await.ok()["sid"].clone();
        let link = self.link().await;
        assert_eq!(self.press(&link).await.status, 200);
        self.add(user, &sid).await.ok();
    }
}

fn credentials(sid: &Value) -> Value {
    json!({"type": "m.login.email.identity", "threepid_creds": {"sid": sid, "client_secret": "s3cret"}})
}

#[tokio::test]
async fn an_address_is_added_once_its_link_was_followed_and_the_button_pressed() {
    let mut world = World::new().await;
    let alice = world.server.user("alice").await;
    let sid = world.ask("/account/3pid", "Alice@Agency.example", 1).await.ok()["sid"].clone();
    let link = world.link().await;
    world.add(&alice, &sid).await.refused(400, "M_THREEPID_AUTH_FAILED");
    let page = world.server.get(&link, None).await;
    assert!(page.status == 200 && page.body.as_str().unwrap().contains("<button>"));
    world.add(&alice, &sid).await.refused(400, "M_THREEPID_AUTH_FAILED");
    world.press(&link).await;
    world.add(&alice, &sid).await.ok();
    let listed = world.server.get(&format!("{V3}/account/3pid"), Some(&alice.token)).await.ok();
    assert_eq!(listed["threepids"][0]["address"], "alice@agency.example");
    assert!(listed["threepids"][0]["validated_at"].is_u64() && listed["threepids"][0]["added_at"].is_u64());
    world.add(&alice, &sid).await.refused(400, "M_THREEPID_AUTH_FAILED");

    let removal = json!({"medium": "email", "address": "ALICE@agency.example"});
    let removed = world.server.post(&format!("{V3}/account/3pid/delete"), Some(&alice.token), &removal).await.ok();
    assert_eq!(removed, json!({"id_server_unbind_result": "no-support"}));
    let listed = world.server.get(&format!("{V3}/account/3pid"), Some(&alice.token)).await.ok();
    assert_eq!(listed, json!({"threepids": []}));
}

#[tokio::test]
async fn a_mail_is_sent_again_only_when_the_client_counts_on() {
    let mut world = World::new().await;
    let first = world.ask("/account/3pid", "a@agency.example", 1).await.ok();
    assert_eq!(world.ask("/account/3pid", "a@agency.example", 1).await.ok(), first);
    assert_eq!(world.ask("/account/3pid", "a@agency.example", 2).await.ok(), first);
    let (one, two) = (world.link().await, world.link().await);
    assert!(one != two && world.mails.try_recv().is_err());
    assert_eq!(world.press(&one).await.status, 200, "the first mail may be read late");
}

#[tokio::test]
async fn a_token_can_be_submitted_by_the_client_itself() {
    let mut world = World::new().await;
    let sid = world.ask("/account/3pid", "a@agency.example", 1).await.ok()["sid"].clone();
    let link = world.link().await;
    let token = crate::wire::query_param(link.split_once('?').unwrap().1, "token").unwrap();
    let submit = async |secret: &str, token: &str| {
        let body = json!({"sid": sid, "client_secret": secret, "token": token});
        world.server.post("/_chancery/email/confirm", None, &body).await
    };
    submit("s3cret", "wrong").await.refused(400, "M_TOKEN_INCORRECT");
    submit("other", &token).await.refused(400, "M_INVALID_PARAM");
    assert_eq!(submit("s3cret", &token).await.ok(), json!({"success": true}));
}

#[tokio::test]
async fn a_link_that_is_too_old_proves_nothing() {
    let mut world = World::new().await;
    world.ask("/account/3pid", "a@agency.example", 1).await.ok();
    let link = world.link().await;
    world.server.clock.advance(std::time::Duration::from_hours(25));
    assert_eq!(world.press(&link).await.status, 400);
}

#[tokio::test]
async fn a_password_is_reset_by_mail() {
    let mut world = World::new().await;
    let alice = world.server.user("alice").await;
    world.give(&alice, "alice@agency.example").await;
    let sid = world.ask("/account/password", "alice@agency.example", 1).await.ok()["sid"].clone();
    let path = format!("{V3}/account/password");
    let begun = world.server.post(&path, None, &json!({"new_password": "battery staple"})).await;
    assert_eq!(begun.status, 401);
    assert_eq!(begun.body["flows"], json!([{"stages": ["m.login.email.identity"]}]));
    let mut auth = credentials(&sid);
    auth["session"] = begun.body["session"].clone();
    let change = json!({"new_password": "battery staple", "auth": auth});
    world.server.post(&path, None, &change).await.refused(401, "M_UNAUTHORIZED");
    let link = world.link().await;
    world.press(&link).await;
    world.server.post(&path, None, &change).await.ok();
    world.server.get(&format!("{V3}/account/whoami"), Some(&alice.token)).await.refused(401, "M_UNKNOWN_TOKEN");
    let notice = world.mails.recv().await.unwrap();
    assert!(notice.subject.contains("was changed") && notice.text.contains("@alice:example.org"));
    let login = json!({
        "type": "m.login.password",
        "identifier": {"type": "m.id.thirdparty", "medium": "email", "address": "Alice@agency.example"},
        "password": "battery staple",
    });
    let again = world.server.post(&format!("{V3}/login"), None, &login).await.ok();
    assert_eq!(again["user_id"], "@alice:example.org");
    world.server.post(&path, None, &change).await.refused(401, "M_UNKNOWN");
}

#[tokio::test]
async fn who_has_an_account_is_told_to_its_owner_alone() {
    let mut world = World::new().await;
    let alice = world.server.user("alice").await;
    world.give(&alice, "alice@agency.example").await;
    for (path, email, subject) in [
        ("/register", "alice@agency.example", "already have an account"),
        ("/account/3pid", "alice@agency.example", "already have an account"),
        ("/account/password", "nobody@agency.example", "no account with this address"),
    ] {
        assert!(world.ask(path, email, 7).await.ok()["sid"].is_string());
        let mail = world.mails.recv().await.unwrap();
        assert!(mail.subject.contains(subject), "{path}: {}", mail.subject);
    }
    let world = World::with(|config| config.addresses.tell_in_use = true).await;
    world.ask("/account/password", "nobody@agency.example", 1).await.refused(400, "M_THREEPID_NOT_FOUND");
}

#[tokio::test]
async fn an_address_can_be_needed_to_register() {
    let mut world = World::with(|config| {
        config.addresses.required = true;
        config.addresses.domains = vec!["agency.example".to_owned()];
    })
    .await;
    world.ask("/register", "bob@elsewhere.example", 1).await.refused(403, "M_THREEPID_DENIED");
    let sid = world.ask("/register", "bob@agency.example", 1).await.ok()["sid"].clone();
    let link = world.link().await;
    world.press(&link).await;
    let body = json!({"username": "bob", "password": PASSWORD, "auth": credentials(&sid)});
    let begun = world.server.post(&format!("{V3}/register"), None, &json!({"username": "bob"})).await;
    assert_eq!(begun.body["flows"], json!([{"stages": ["m.login.email.identity"]}]));
    let bob = User::of(&world.server.post(&format!("{V3}/register"), None, &body).await.ok());
    let listed = world.server.get(&format!("{V3}/account/3pid"), Some(&bob.token)).await.ok();
    assert_eq!(listed["threepids"][0]["address"], "bob@agency.example");
}

#[tokio::test]
async fn what_is_wrong_is_refused() {
    let world = World::new().await;
    world.ask("/account/3pid", "nobody", 1).await.refused(400, "M_INVALID_PARAM");
    let body = json!({"client_secret": "not valid!", "email": "a@b.example", "send_attempt": 1});
    let path = format!("{V3}/register/email/requestToken");
    world.server.post(&path, None, &body).await.refused(400, "M_INVALID_PARAM");
    let body = json!({"client_secret": "s", "country": "RU", "phone_number": "1", "send_attempt": 1});
    for path in ["/register", "/account/password", "/account/3pid"] {
        let path = format!("{V3}{path}/msisdn/requestToken");
        world.server.post(&path, None, &body).await.refused(400, "M_THREEPID_MEDIUM_NOT_SUPPORTED");
    }
    let alice = world.server.user("alice").await;
    let bind = json!({"client_secret": "s", "sid": "1", "id_server": "id.example", "id_access_token": "t"});
    let path = format!("{V3}/account/3pid/bind");
    world.server.post(&path, Some(&alice.token), &bind).await.refused(400, "M_SERVER_NOT_TRUSTED");
    let without = Server::new().await;
    let body = json!({"client_secret": "s", "email": "a@b.example", "send_attempt": 1});
    let path = format!("{V3}/register/email/requestToken");
    without.post(&path, None, &body).await.refused(400, "M_THREEPID_MEDIUM_NOT_SUPPORTED");
}
