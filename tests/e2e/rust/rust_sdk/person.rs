//! Somebody with a client that syncs in the background.

use crate::server::Server;
use anyhow::{Context as _, Result, bail};
use matrix_sdk::config::RequestConfig;
use matrix_sdk::ruma::api::client::account::register::v3 as register;
use matrix_sdk::ruma::api::client::room::create_room::v3 as create_room;
use matrix_sdk::ruma::api::client::uiaa::{AuthData, Dummy};
use matrix_sdk::ruma::{OwnedUserId, RoomId, UserId};
use matrix_sdk::{Client, Room, ThreadingSupport};
use matrix_sdk_ui::sync_service::SyncService;
use std::time::{Duration, Instant};

/// How long anything may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);
const PASSWORD: &str = "correct horse battery staple";

pub struct Person {
    pub client: Client,
    pub sync: SyncService,
}

impl Person {
    /// A new account.
    pub async fn register(server: &Server, name: &str) -> Result<Self> {
        let client = client(server).await?;
        let mut request = register::Request::new();
        request.username = Some(name.to_owned());
        request.password = Some(PASSWORD.to_owned());
        let mut dummy = Dummy::new();
        if let Err(error) = client.matrix_auth().register(request.clone()).await {
            let uiaa = error.as_uiaa_response().context("registration is refused")?;
            dummy.session.clone_from(&uiaa.session);
            request.auth = Some(AuthData::Dummy(dummy));
            client.matrix_auth().register(request).await?;
        }
        Self::over(client).await
    }

    /// Another device of an account.
    pub async fn login(server: &Server, name: &str) -> Result<Self> {
        let client = client(server).await?;
        client.matrix_auth().login_username(name, PASSWORD).initial_device_display_name("second").send().await?;
        Self::over(client).await
    }

    async fn over(client: Client) -> Result<Self> {
        let sync = SyncService::builder(client.clone()).build().await?;
        sync.start().await;
        Ok(Self { client, sync })
    }

    pub fn user_id(&self) -> OwnedUserId {
        self.client.user_id().map(UserId::to_owned).unwrap_or_else(|| panic!("nobody is logged in"))
    }

    /// A new room, public so that anybody may join it by its id.
    pub async fn open_room(&self, name: &str) -> Result<Room> {
        let mut request = create_room::Request::new();
        request.name = Some(name.to_owned());
        request.preset = Some(create_room::RoomPreset::PublicChat);
        Ok(self.client.create_room(request).await?)
    }

    /// A private room with an invitation for somebody.
    pub async fn room_with(&self, other: &Person, name: &str) -> Result<Room> {
        let mut request = create_room::Request::new();
        request.name = Some(name.to_owned());
        request.preset = Some(create_room::RoomPreset::PrivateChat);
        request.invite = vec![other.user_id()];
        Ok(self.client.create_room(request).await?)
    }

    /// The room, once the room list has it.
    pub async fn room(&self, room_id: &RoomId) -> Result<Room> {
        until("a room to arrive", async || Ok(self.client.get_room(room_id))).await
    }
}

async fn client(server: &Server) -> Result<Client> {
    let request_config = RequestConfig::new().timeout(Duration::from_secs(60));
    let builder = Client::builder().homeserver_url(server.url()).request_config(request_config);
    Ok(builder.with_threading_support(ThreadingSupport::Enabled { with_subscriptions: false }).build().await?)
}

/// Waits until something is there.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("waited in vain for {what}");
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Waits until something is so.
pub async fn until_so(what: &str, mut is_so: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    until(what, async || Ok(is_so().await?.then_some(()))).await
}
