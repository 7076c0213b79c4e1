//! One-time keys under load, on the memory engine. What clients see of the rest is tested through the endpoints.

use crate::{Claim, Devices, KeyUpload};
use base::{FakeClock, UnixMillis};
use records::{DeviceRecord, Records};
use ruma::{OwnedDeviceId, OwnedUserId, owned_device_id, owned_server_name, owned_user_id};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use store::MemoryEngine;

const ALGORITHM: &str = "curve25519";

pub fn alice() -> OwnedUserId {
    owned_user_id!("@alice:here.example")
}

pub fn devices_over(records: &Records) -> Devices {
    let clock = Arc::new(FakeClock::new(UnixMillis(1_700_000_000_000)));
    Devices::new(records.clone(), owned_server_name!("here.example"), clock)
}

pub async fn records_with(devices: &[OwnedDeviceId]) -> Records {
    let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
    let mut changes = records.changes(&records.view());
    for device in devices {
        let record = DeviceRecord { display_name: None, created_at: UnixMillis(0), generation: 0 };
        changes.put_device(&alice(), device, &record).unwrap();
    }
    records.commit(changes).await.unwrap();
    records
}

fn keys(numbers: std::ops::Range<u32>) -> KeyUpload {
    let key = |number: u32| (format!("{ALGORITHM}:{number}"), format!("\"key {number}\""));
    KeyUpload { one_time_keys: numbers.map(key).collect(), ..KeyUpload::default() }
}

fn claim(device: &OwnedDeviceId) -> Claim {
    Claim { user_id: alice(), device_id: device.clone(), algorithm: ALGORITHM.to_owned() }
}

/// Claims from several servers over one store at once, and uploads meanwhile: what was given out.
async fn storm(servers: &[Devices], device: &OwnedDeviceId, claims: usize, uploads: u32) -> Vec<String> {
    let mut claiming = Vec::new();
    for index in 0..claims {
        let (server, claim) = (servers[index % servers.len()].clone(), claim(device));
        claiming.push(tokio::spawn(async move { server.claim(vec![claim]).await }));
    }
    for (index, server) in (0..uploads).zip(servers.iter().cycle()) {
        let from = 1_000_000 + index * 10;
        server.upload(&alice(), device, keys(from..from + 10)).await.unwrap();
    }
    let mut given = Vec::new();
    for claimed in claiming {
        // A claim that met the others' commits too often got none, which its client is told.
        let Ok(keys) = claimed.await.unwrap() else { continue };
        given.extend(keys.into_iter().flatten().map(|key| key.key));
    }
    given
}

fn distinct(keys: &[String]) -> usize {
    keys.iter().collect::<BTreeSet<_>>().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_thousand_claims_at_once_get_each_key_once_and_lose_none() {
    let device = owned_device_id!("D");
    let records = records_with(std::slice::from_ref(&device)).await;
    let server = devices_over(&records);
    server.upload(&alice(), &device, keys(0..1_000)).await.unwrap();
    let given = storm(std::slice::from_ref(&server), &device, 20_000, 50).await;
    let left = records.view().one_time_state(&alice(), &device).unwrap().unwrap().queues[ALGORITHM].count();
    assert_eq!(distinct(&given), given.len());
    assert_eq!(given.len() + usize::try_from(left).unwrap(), 1_500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_servers_over_one_store_give_no_key_twice() {
    let device = owned_device_id!("D");
    let records = records_with(std::slice::from_ref(&device)).await;
    let servers = [devices_over(&records), devices_over(&records)];
    servers[0].upload(&alice(), &device, keys(0..1_000)).await.unwrap();
    let given = storm(&servers, &device, 1_200, 0).await;
    assert!(!given.is_empty());
    assert_eq!(distinct(&given), given.len());
}

#[tokio::test]
async fn a_key_that_was_given_out_is_known_for_a_hundred_more_claims() {
    let device = owned_device_id!("D");
    let records = records_with(std::slice::from_ref(&device)).await;
    let server = devices_over(&records);
    server.upload(&alice(), &device, keys(0..150)).await.unwrap();
    let mut left = 150;
    for _ in 0..100 {
        assert_eq!(server.claim(vec![claim(&device)]).await.unwrap().iter().flatten().count(), 1);
        left -= 1;
        let counts = server.upload(&alice(), &device, keys(0..1)).await.unwrap();
        assert_eq!(counts[ALGORITHM], left);
    }
    server.claim(vec![claim(&device)]).await.unwrap();
    assert_eq!(server.upload(&alice(), &device, keys(0..1)).await.unwrap()[ALGORITHM], left);
}

#[tokio::test]
async fn one_request_claims_from_many_devices_and_twice_from_one() {
    let all: Vec<OwnedDeviceId> = (0..50).map(|n: u32| format!("D{n}").into()).collect();
    let records = records_with(&all).await;
    let server = devices_over(&records);
    for (n, device) in (0..).zip(&all) {
        server.upload(&alice(), device, keys(n * 10..n * 10 + 2)).await.unwrap();
    }
    let claims: Vec<Claim> = all.iter().chain(&all).chain(&all[..1]).map(claim).collect();
    let given = server.claim(claims).await.unwrap();
    let mut by_count: BTreeMap<bool, usize> = BTreeMap::new();
    for key in &given {
        *by_count.entry(key.is_some()).or_default() += 1;
    }
    assert_eq!(by_count, BTreeMap::from([(true, 100), (false, 1)]));
    let keys: Vec<String> = given.into_iter().flatten().map(|key| key.key).collect();
    assert_eq!(distinct(&keys), 100);
}
