//! Several servers, a network that loses, doubles and delays what they send to each other, and people who come, go and
//! change things meanwhile. At rest all servers agree. Everything follows from a seed, which a failure prints.

use super::entering::join;
use super::net::{Net, Server};
use base::{Random as _, SeededRandom};
use rooms::MembershipChange;
use ruma::{RoomId, RoomVersionId};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How many seeds are run.
const SEEDS: u64 = 6;
/// What happens in one run.
const STEPS: usize = 40;
/// How often those who wait are woken before it is said that they never come to rest.
const ROUNDS_MAX: usize = 2_000;
/// For how many rounds all servers have to be quiet.
const QUIET_ROUNDS: usize = 10;

fn pick(random: &SeededRandom, count: usize) -> usize {
    let mut bytes = [0; 4];
    random.fill(&mut bytes);
    usize::try_from(u32::from_le_bytes(bytes)).unwrap() % count
}

struct World {
    seed: u64,
    net: Arc<Net>,
    servers: Vec<Server>,
    room: ruma::OwnedRoomId,
}

impl World {
    async fn new(seed: u64) -> Self {
        let net = Net::new();
        let mut servers = Vec::new();
        let count = 3 + usize::try_from(seed).unwrap() % 3;
        for nth in 0..count {
            servers.push(net.server(&format!("s{nth}.example")).await);
        }
        let version =
            [RoomVersionId::V10, RoomVersionId::V11, RoomVersionId::V12][usize::try_from(seed).unwrap() % 3].clone();
        let room = servers[0].room("admin", version).await;
        for server in &servers {
            server.federation.start_sending();
        }
        let world = Self { seed, net, servers, room };
        for server in &world.servers[1..] {
            join(server, &world.room, "user", &world.servers[0]).await.unwrap();
            world.rest().await;
        }
        for server in &world.servers {
            let eve = server.user("eve");
            server.rooms.change_membership(&world.room, &eve, MembershipChange::Join, None, None).await.unwrap();
            world.rest().await;
        }
        world
    }

    /// Wakes those who wait until nobody has anything to tell any more.
    async fn rest(&self) {
        // What one server has just been told, it tells others in turn: all must have been quiet for a while.
        let mut quiet = 0;
        for _ in 0..ROUNDS_MAX {
            for server in &self.servers {
                for other in &self.servers {
                    server.federation.heard_from(&other.name);
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            let is_quiet =
                self.servers.iter().all(|server| server.federation.servers_behind() == 0 && self.is_routed(server));
            quiet = if is_quiet { quiet + 1 } else { 0 };
            if quiet == QUIET_ROUNDS {
                return;
            }
        }
        panic!("seed {}: the servers don't come to rest", self.seed);
    }

    /// Whether all that has happened was given to the queues.
    fn is_routed(&self, server: &Server) -> bool {
        server.federation.routed() >= server.records.view().stamp() && !self.room.as_str().is_empty()
    }

    async fn step(&self, random: &SeededRandom, nth: usize) {
        let server = &self.servers[pick(random, self.servers.len())];
        let user = if server.name == self.servers[0].name { "admin" } else { "user" };
        let other = &self.servers[pick(random, self.servers.len())];
        let content = |body: String| json!({ "name": body, "topic": body });
        match pick(random, 10) {
            0..=3 => drop(server.say(&self.room, user, &format!("{nth} from {}", server.name)).await),
            4 => self.try_set(server, user, "m.room.name", &content(format!("{nth}"))).await,
            5 => self.try_set(server, user, "m.room.topic", &content(format!("{nth}"))).await,
            6 | 7 => {
                let eve = other.user("eve");
                let change = match pick(random, 3) {
                    0 => MembershipChange::Kick { user: eve },
                    1 => MembershipChange::Ban { user: eve },
                    _ => MembershipChange::Unban { user: eve },
                };
                let sender = server.user(user);
                drop(server.rooms.change_membership(&self.room, &sender, change, None, None).await);
            }
            8 => {
                let (eve, change) = (server.user("eve"), MembershipChange::Join);
                drop(server.rooms.change_membership(&self.room, &eve, change, None, None).await);
            }
            _ => {
                let users: serde_json::Map<String, serde_json::Value> = self.servers[1..]
                    .iter()
                    .map(|server| (server.user("user").to_string(), json!([0, 50, 60][pick(random, 3)])))
                    .collect();
                let mut levels = json!({ "users": users, "state_default": 50 });
                if self.servers[0].reader(&self.room).head().version != RoomVersionId::V12 {
                    levels["users"][self.servers[0].user("admin").as_str()] = json!(100);
                }
                self.try_set(&self.servers[0], "admin", "m.room.power_levels", &levels).await;
            }
        }
    }

    async fn try_set(&self, server: &Server, user: &str, kind: &str, content: &serde_json::Value) {
        let draft = rooms::Draft::state(server.user(user), kind, "", super::net::raw(content));
        // What the sender may not do at the moment comes to nothing.
        drop(server.rooms.send(&self.room, draft, None).await);
    }

    fn check(&self) {
        let said = |server: &Server| -> BTreeSet<String> { bodies(server, &self.room) };
        let first = &self.servers[0];
        for server in &self.servers[1..] {
            assert_eq!(first.state(&self.room), server.state(&self.room), "seed {}: {}", self.seed, server.name);
            let (ours, theirs) = (said(first), said(server));
            let differing: Vec<_> = ours.symmetric_difference(&theirs).collect();
            assert!(differing.is_empty(), "seed {}: {}: {differing:?}", self.seed, server.name);
            let (ours, theirs) = (first.reader(&self.room), server.reader(&self.room));
            assert_eq!(ours.head().joined, theirs.head().joined, "seed {}: {}", self.seed, server.name);
        }
    }
}

fn bodies(server: &Server, room: &RoomId) -> BTreeSet<String> {
    server.bodies(room).into_iter().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "one run in three ends with a server that lacks events of another: a known fault, see ARCHITECTURE.md"]
async fn servers_agree_at_rest_whatever_the_network_has_done() {
    let seeds =
        std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok()).map_or(0..SEEDS, |seed| seed..seed + 1);
    for seed in seeds {
        let world = World::new(seed).await;
        let random = SeededRandom::new(seed);
        *world.net.faults.lock().unwrap() = Some(SeededRandom::new(seed + 1_000));
        for nth in 0..STEPS {
            world.step(&random, nth).await;
            if pick(&random, 3) == 0 {
                tokio::task::yield_now().await;
            }
        }
        *world.net.faults.lock().unwrap() = None;
        world.rest().await;
        // Each goes on from all that it has heard, so that in the end one event follows everything.
        for server in &world.servers {
            let user = if server.name == world.servers[0].name { "admin" } else { "user" };
            server.say(&world.room, user, &format!("end of {}", server.name)).await;
            world.rest().await;
        }
        world.check();
    }
}
