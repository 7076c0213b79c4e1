//! For any history, a client that does what `device_lists` says has the keys of all whose devices it follows.

use super::*;
use proptest::prelude::*;
use ruma::OwnedUserId;
use std::collections::{BTreeMap, BTreeSet};

const ROOMS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A user joins a room, or leaves it.
    Moves {
        user: u8,
        room: u8,
    },
    /// Alice invites a user to a room, or takes the invitation back.
    Invites {
        user: u8,
        room: u8,
    },
    /// A user leaves a room, somebody has new keys, and the user joins again.
    Returns {
        user: u8,
        room: u8,
        keys: u8,
    },
    /// A user has new keys.
    NewKeys {
        user: u8,
    },
    /// A user says something.
    Says {
        room: u8,
    },
    Sync,
}

fn step() -> impl Strategy<Value = Step> {
    let room = 0..u8::try_from(ROOMS).unwrap();
    prop_oneof![
        6 => (0_u8..4, room.clone()).prop_map(|(user, room)| Step::Moves { user, room }),
        2 => (1_u8..4, room.clone()).prop_map(|(user, room)| Step::Invites { user, room }),
        3 => (0_u8..4, room.clone(), 0_u8..4).prop_map(|(user, room, keys)| Step::Returns { user, room, keys }),
        4 => (0_u8..4).prop_map(|user| Step::NewKeys { user }),
        1 => room.prop_map(|room| Step::Says { room }),
        4 => Just(Step::Sync),
    ]
}

fn users() -> [OwnedUserId; 4] {
    [alice(), bob(), carol(), owned_user_id!("@dora:here.example")]
}

/// What alice's client knows: the keys of the users that it follows, by when they changed.
#[derive(Default)]
struct Client {
    since: Option<String>,
    followed: BTreeMap<OwnedUserId, Option<base::Stamp>>,
}

struct Story {
    world: World,
    rooms: Vec<OwnedRoomId>,
}

impl Story {
    async fn begin(world: World) -> Self {
        let mut rooms = Vec::new();
        for user in users().iter().take(ROOMS) {
            let request = CreateRoom { preset: Some(Preset::PublicChat), ..CreateRoom::default() };
            rooms.push(world.rooms.create(user, request).await.unwrap());
        }
        Self { world, rooms }
    }

    fn membership(&self, user: &UserId, room: usize) -> Option<records::Membership> {
        let view = self.world.records.view();
        let num = view.room_num(&self.rooms[room]).unwrap().unwrap();
        view.membership(user, num).unwrap().map(|(_, record)| record.membership)
    }

    async fn step(&self, step: Step) {
        let change = async |room: u8, sender: &UserId, change: MembershipChange| {
            // What the room's rules refuse is not part of the history.
            let room = &self.rooms[usize::from(room)];
            drop(self.world.rooms.change_membership(room, sender, change, None, None).await);
        };
        match step {
            Step::Moves { user, room } => {
                let user = &users()[usize::from(user)];
                let joined = self.membership(user, room.into()) == Some(records::Membership::Join);
                change(room, user, if joined { MembershipChange::Leave } else { MembershipChange::Join }).await;
            }
            Step::Invites { user, room } => {
                let user = users()[usize::from(user)].clone();
                let invited = self.membership(&user, room.into()) == Some(records::Membership::Invite);
                let how = if invited { MembershipChange::Kick { user } } else { MembershipChange::Invite { user } };
                change(room, &alice(), how).await;
            }
            Step::Returns { user, room, keys } => {
                let user = &users()[usize::from(user)];
                change(room, user, MembershipChange::Leave).await;
                // The log is followed while the user is away.
                self.world.syncs.0.catch_up().unwrap();
                self.new_keys(keys).await;
                self.world.syncs.0.catch_up().unwrap();
                change(room, user, MembershipChange::Join).await;
            }
            Step::NewKeys { user } => self.new_keys(user).await,
            Step::Says { room } => {
                let content = to_raw_value(&json!({"body": "b"})).unwrap();
                let draft = Draft::message(bob(), "m.room.message", content);
                drop(self.world.rooms.send(&self.rooms[usize::from(room)], draft, None).await);
            }
            Step::Sync => {}
        }
    }

    async fn new_keys(&self, user: u8) {
        let records = &self.world.records;
        let mut changes = records.changes(&records.view());
        changes.change_device_list(&users()[usize::from(user)]).unwrap();
        records.commit(changes).await.unwrap();
    }

    /// Whose devices alice has to know of.
    fn shown(&self) -> BTreeSet<OwnedUserId> {
        let is_in = |user: &UserId, room: usize, also_invited: bool| match self.membership(user, room) {
            Some(records::Membership::Join) => true,
            Some(records::Membership::Invite) => also_invited,
            _ => false,
        };
        let others = users().into_iter().skip(1);
        others.filter(|user| (0..ROOMS).any(|room| is_in(&alice(), room, false) && is_in(user, room, true))).collect()
    }

    async fn sync(&self, client: &mut Client) {
        let response = self.world.ask(request(&alice(), client.since.as_deref())).await;
        let list = |name: &str| -> BTreeSet<OwnedUserId> {
            let users = response["device_lists"][name].as_array();
            users.into_iter().flatten().map(|user| user.as_str().unwrap().try_into().unwrap()).collect()
        };
        let (changed, left) = (list("changed"), list("left"));
        if let Some(since) = &client.since {
            // Whatever way the server finds it, and whichever way it is asked, it tells the same.
            for log_read_max in [crate::changed::LOG_READ_MAX, 0] {
                let (records, rooms) = (self.world.records.clone(), self.world.rooms.clone());
                let clock = self.world.clock.clone();
                let syncs = Syncs::with_log_read_max(records, rooms, clock, Config::default(), log_read_max);
                let again = syncs.sync(request(&alice(), client.since.as_deref())).await.unwrap();
                let again: Value = serde_json::from_slice(&again).unwrap();
                assert_eq!(again.get("device_lists"), response.get("device_lists"), "{log_read_max}");
            }
            let lists = self.world.syncs.device_lists(&alice(), since.parse().unwrap()).await.unwrap();
            assert_eq!((&lists.changed, &lists.left), (&changed, &left));
        }
        let shown = self.shown();
        let view = self.world.records.view();
        for user in &left {
            assert!(!shown.contains(user), "{user} has not gone");
            client.followed.remove(user);
        }
        for user in &changed {
            assert!(shown.contains(user) || *user == alice(), "{user} is none of alice's business");
        }
        // The client follows whom it sees, and asks for the keys of those alone who are new to it or have changed.
        for user in shown.iter().chain([&alice()]) {
            let newest = view.device_list_changed(user).unwrap();
            if changed.contains(user) || !client.followed.contains_key(user) {
                client.followed.insert(user.clone(), newest);
            }
            assert_eq!(client.followed[user], newest, "the client was not told of {user}");
        }
        // Whom it does not see any more it was told of.
        for user in client.followed.keys() {
            assert!(shown.contains(user) || *user == alice(), "the client was not told that {user} has gone");
        }
        client.since = Some(token(&response).to_owned());
    }
}

async fn tell(steps: Vec<Step>) {
    let story = Story::begin(World::new().await).await;
    let mut client = Client::default();
    story.sync(&mut client).await;
    for step in steps {
        story.step(step).await;
        if matches!(step, Step::Sync) {
            story.sync(&mut client).await;
        }
    }
    story.sync(&mut client).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_client_has_the_keys_of_all_whose_devices_it_follows(steps in proptest::collection::vec(step(), 1..40)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(tell(steps));
    }
}
