//! kill -9 at a random moment while many claim one-time keys, again and again: no key is given out twice, and none
//! is lost but to those who were waiting for an answer when the process died.
//!
//! The test runs itself as a child that uploads and claims and says what it was answered. `CHANCERY_CLAIM_KILLS` is
//! how often it is killed, 10 if it isn't set.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

use base::{SystemClock, UnixMillis};
use devices::{Claim, Devices, KeyUpload};
use records::{DeviceRecord, Records};
use ruma::{OwnedDeviceId, OwnedUserId, owned_device_id, owned_server_name, owned_user_id};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use store_rocksdb::{Config, RocksEngine, SharedMemory};

const CHILD: &str = "CHANCERY_CLAIM_CHILD";
const KILLS: &str = "CHANCERY_CLAIM_KILLS";
const KILLS_DEFAULT: usize = 10;
/// How long a child lives at most.
const LIFE_US_MAX: u64 = 800_000;
/// How many claim at the same time.
const CLAIMANTS: usize = 16;
/// How many keys one upload has.
const UPLOADED: u64 = 50;
const ALGORITHM: &str = "curve25519";

fn main() {
    if let Some(path) = std::env::var_os(CHILD) {
        runtime().block_on(claim_until_killed(Path::new(&path)));
        return;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        println!("crash: test");
        return;
    }
    // As with any other test, a name on the command line selects.
    if arguments.iter().any(|argument| !argument.starts_with('-') && !"crash".contains(argument.as_str())) {
        return;
    }
    survive(std::env::var(KILLS).map_or(KILLS_DEFAULT, |kills| kills.parse().unwrap()));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn alice() -> OwnedUserId {
    owned_user_id!("@alice:here.example")
}

fn device() -> OwnedDeviceId {
    owned_device_id!("DEVICE")
}

async fn open(path: &Path) -> Devices {
    let engine = Arc::new(RocksEngine::open(path, &SharedMemory::new(0), &Config::default()).unwrap());
    let records = Records::open(engine).await.unwrap();
    if records.view().device(&alice(), &device()).unwrap().is_none() {
        let mut changes = records.changes(&records.view());
        let record = DeviceRecord { display_name: None, created_at: UnixMillis(0), generation: 0 };
        changes.put_device(&alice(), &device(), &record).unwrap();
        records.commit(changes).await.unwrap();
    }
    Devices::new(records, owned_server_name!("here.example"), Arc::new(SystemClock))
}

async fn claim(devices: &Devices) -> Option<String> {
    let claim = Claim { user_id: alice(), device_id: device(), algorithm: ALGORITHM.to_owned() };
    devices.claim(vec![claim]).await.unwrap().into_iter().flatten().next().map(|key| key.key)
}

/// One write to a pipe, short enough to be whole.
fn say(line: &str) {
    std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
}

async fn claim_until_killed(path: &Path) {
    let devices = open(path).await;
    let mut claimants = tokio::task::JoinSet::new();
    for _ in 0..CLAIMANTS {
        let devices = devices.clone();
        claimants.spawn(async move {
            loop {
                match claim(&devices).await {
                    Some(key) => say(&format!("got {key}")),
                    None => tokio::task::yield_now().await,
                }
            }
        });
    }
    let mut upload = 0_u64;
    loop {
        let key = |n: u64| {
            let name = format!("{}-{upload}-{n}", std::process::id());
            (format!("{ALGORITHM}:{name}"), format!("\"{name}\""))
        };
        let one_time_keys = (0..UPLOADED).map(key).collect();
        match devices.upload(&alice(), &device(), KeyUpload { one_time_keys, ..KeyUpload::default() }).await {
            Ok(_) => say(&format!("put {}-{upload}", std::process::id())),
            // There are enough for now.
            Err(devices::Error::TooLarge(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("an upload failed: {error}"),
        }
        upload += 1;
    }
}

fn survive(kills: usize) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let (mut put, mut got): (BTreeSet<String>, Vec<String>) = (BTreeSet::new(), Vec::new());
    for _ in 0..kills {
        for line in run_and_kill(&path) {
            match line.split_once(' ').unwrap() {
                ("put", upload) => put.extend((0..UPLOADED).map(|n| format!("\"{upload}-{n}\""))),
                (_, key) => got.push(key.to_owned()),
            }
        }
    }
    let answered = got.len();
    got.extend(runtime().block_on(async {
        let devices = open(&path).await;
        let mut left = Vec::new();
        while let Some(key) = claim(&devices).await {
            left.push(key);
        }
        left
    }));
    let distinct: BTreeSet<String> = got.iter().cloned().collect();
    assert_eq!(distinct.len(), got.len(), "a key was given out twice");
    let lost = put.difference(&distinct).count();
    assert!(lost <= kills * CLAIMANTS, "{lost} keys are lost, more than were being claimed at {kills} kills");
    println!("crash: {kills} kills, {answered} keys given out, none twice; {lost} were being claimed at a kill");
}

fn run_and_kill(path: &Path) -> Vec<String> {
    let mut random = [0; 8];
    base::Random::fill(&base::SystemRandom, &mut random);
    let life = Duration::from_micros(u64::from_be_bytes(random) % LIFE_US_MAX);
    let mut child =
        Command::new(std::env::current_exe().unwrap()).env(CHILD, path).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reader = std::thread::spawn(move || lines.map(Result::unwrap).collect::<Vec<String>>());
    std::thread::sleep(life);
    assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}
