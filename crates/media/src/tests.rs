//! What holds for media as a whole, over the memory engine and files in memory.

use crate::{
    Blobs, ByteStream, Config, Error, Media, Mxc, NewFile, RemoteError, RemoteFile, RemoteMedia, ScanError, ScanPolicy,
    Scanned, Scanner, VerdictState, Wanted,
};
use base::config::ByteSize;
use base::{Clock, FakeClock, SeededRandom, UnixMillis};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use records::{BlobHash, Records};
use ruma::{UserId, server_name, user_id};
use sha2::{Digest, Sha256};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use store::MemoryEngine;
use tokio::sync::Notify;

struct Scene {
    media: Media,
    clock: Arc<FakeClock>,
    records: Records,
}

impl Scene {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::over(Blobs::in_memory(), change).await
    }

    async fn over(blobs: Blobs, change: impl FnOnce(&mut Config)) -> Self {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let clock = Arc::new(FakeClock::new(UnixMillis(1_700_000_000_000)));
        let mut config = Config::default();
        change(&mut config);
        let random = Arc::new(SeededRandom::new(1));
        let name = server_name!("x.example").to_owned();
        let media = Media::new(records.clone(), blobs, name, clock.clone(), random, config);
        Self { media, clock, records }
    }

    async fn upload(&self, user: &UserId, bytes: &'static [u8]) -> Result<Mxc, Error> {
        self.media.upload(user, NewFile::default(), body(bytes)).await
    }

    async fn content(&self, mxc: &Mxc) -> Result<Vec<u8>, Error> {
        let file = self.media.find(mxc, at_once()).await?;
        Ok(self.media.read(&file, 0..file.bytes).await?.try_collect::<Vec<_>>().await.unwrap().concat())
    }
}

fn alice() -> &'static UserId {
    user_id!("@alice:x.example")
}

fn bob() -> &'static UserId {
    user_id!("@bob:x.example")
}

fn body(bytes: &'static [u8]) -> ByteStream {
    stream::iter(bytes.chunks(3).map(|chunk| Ok(Bytes::from_static(chunk)))).boxed()
}

fn at_once() -> Wanted {
    Wanted { timeout: Duration::ZERO, ..Wanted::default() }
}

fn hash(bytes: &[u8]) -> BlobHash {
    BlobHash(Sha256::digest(bytes).into())
}

/// Says what a file holds by its first word, and counts how often it is asked.
#[derive(Default)]
struct FakeScanner {
    asked: AtomicUsize,
    /// Awaited before each answer, if it is given.
    go: Option<Notify>,
}

impl Scanner for FakeScanner {
    fn engine(&self) -> String {
        "fake 1".to_owned()
    }

    fn scan(&self, file: Scanned) -> BoxFuture<'_, Result<VerdictState, ScanError>> {
        async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if let Some(go) = &self.go {
                go.notified().await;
            }
            let bytes = file.body.try_collect::<Vec<_>>().await.map_err(|error| ScanError(error.to_string()))?.concat();
            assert_eq!(file.sha256, hash(&bytes));
            match &bytes[..] {
                b"virus" => Ok(VerdictState::Infected("Eicar".to_owned())),
                b"locked" => Ok(VerdictState::Unscannable("encrypted".to_owned())),
                b"down" => Err(ScanError("nobody listens".to_owned())),
                _ => Ok(VerdictState::Clean),
            }
        }
        .boxed()
    }
}

struct FakeRemote {
    asked: AtomicUsize,
    go: Notify,
}

impl RemoteMedia for FakeRemote {
    fn fetch<'a>(&'a self, mxc: &'a Mxc, _: Duration) -> BoxFuture<'a, Result<RemoteFile, RemoteError>> {
        async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.go.notified().await;
            let file = |length, body| RemoteFile {
                content_type: Some("text/plain".to_owned()),
                filename: Some("far.txt".to_owned()),
                length,
                body,
            };
            match mxc.id() {
                "far" => Ok(file(Some(8), body(b"far away"))),
                "virus" => Ok(file(None, body(b"virus"))),
                "large" => Ok(file(Some(1 << 40), body(b""))),
                "short" => Ok(file(Some(100), body(b"short"))),
                _ => Err(RemoteError::NotFound),
            }
        }
        .boxed()
    }
}

fn remote(scene: &Scene) -> Arc<FakeRemote> {
    let remote = Arc::new(FakeRemote { asked: AtomicUsize::new(0), go: Notify::new() });
    scene.media.set_remote(remote.clone());
    remote
}

fn far(id: &str) -> Mxc {
    Mxc::new(server_name!("far.example"), id).unwrap()
}

#[tokio::test]
async fn the_same_bytes_are_kept_once_until_the_last_name_goes() {
    let scene = Scene::new().await;
    let one = scene.upload(alice(), b"the same").await.unwrap();
    let two = scene.upload(bob(), b"the same").await.unwrap();
    assert_ne!(one, two);
    assert_eq!(scene.records.view().blob(&hash(b"the same")).unwrap().unwrap().media, 2);
    assert!(scene.media.delete(&one).await.unwrap());
    assert!(!scene.media.delete(&one).await.unwrap());
    assert!(matches!(scene.content(&one).await, Err(Error::NotFound)));
    assert_eq!(scene.content(&two).await.unwrap(), b"the same");
    assert!(scene.media.delete(&two).await.unwrap());
    let shard = hash(b"the same").0[0];
    assert!(scene.media.0.blobs.shard(crate::blobs::Kind::Blob, shard).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bytes_that_come_while_they_go_are_there_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Arc::new(Scene::over(Blobs::folder(folder.path()).unwrap(), |_| {}).await);
    let churn = |user: &'static UserId| {
        let scene = scene.clone();
        tokio::spawn(async move {
            for _ in 0..50 {
                let mxc = scene.upload(user, b"coming and going").await.unwrap();
                assert_eq!(scene.content(&mxc).await.unwrap(), b"coming and going");
                scene.media.delete(&mxc).await.unwrap();
            }
        })
    };
    let (one, two) = (churn(alice()), churn(bob()));
    one.await.unwrap();
    two.await.unwrap();
    assert_eq!(scene.records.view().blob(&hash(b"coming and going")).unwrap(), None);
}

#[tokio::test]
async fn an_upload_is_bounded_by_size_and_quota() {
    let scene = Scene::with(|config| {
        config.upload_bytes_max = ByteSize(10);
        config.user_bytes_max = Some(ByteSize(20));
        config.user_files_max = Some(3);
    })
    .await;
    let said = NewFile { length: Some(11), ..NewFile::default() };
    assert!(matches!(scene.media.upload(alice(), said, body(b"x")).await, Err(Error::TooLarge(10))));
    assert!(matches!(scene.upload(alice(), b"more than ten bytes").await, Err(Error::TooLarge(10))));
    scene.upload(alice(), b"9 bytes..").await.unwrap();
    scene.upload(alice(), b"9 more....").await.unwrap();
    assert!(matches!(scene.upload(alice(), b"one").await, Err(Error::QuotaReached)));
    let small = scene.upload(alice(), b"1").await.unwrap();
    assert!(matches!(scene.upload(alice(), b"").await, Err(Error::QuotaReached)), "three files are enough");
    assert!(matches!(scene.media.create(alice()).await, Err(Error::QuotaReached)));
    scene.upload(bob(), b"9 bytes..").await.unwrap();
    scene.media.delete(&small).await.unwrap();
    scene.upload(alice(), b"").await.unwrap();
    let usage = scene.media.usage(alice()).unwrap();
    assert_eq!((usage.files, usage.bytes), (3, 19));
}

#[tokio::test]
async fn a_user_has_so_many_uploads_at_once() {
    let scene = Arc::new(Scene::with(|config| config.user_uploads_at_once_max = 1).await);
    let (send, receive) = futures::channel::mpsc::unbounded::<io::Result<Bytes>>();
    let slow = tokio::spawn({
        let scene = scene.clone();
        async move { scene.media.upload(alice(), NewFile::default(), receive).await }
    });
    while scene.media.0.uploading.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(matches!(scene.upload(alice(), b"x").await, Err(Error::Busy)));
    scene.upload(bob(), b"x").await.unwrap();
    send.unbounded_send(Ok(Bytes::from_static(b"slow"))).unwrap();
    drop(send);
    let mxc = slow.await.unwrap().unwrap();
    assert_eq!(scene.content(&mxc).await.unwrap(), b"slow");
    scene.upload(alice(), b"x").await.unwrap();
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::over(Blobs::folder(folder.path()).unwrap(), |_| {}).await;
    let broken = stream::iter([Ok(Bytes::from_static(b"half")), Err(io::Error::other("gone"))]);
    assert!(matches!(scene.media.upload(alice(), NewFile::default(), broken).await, Err(Error::CutOff(_))));
    assert_eq!(std::fs::read_dir(folder.path().join("incoming")).unwrap().count(), 0);
    assert!(scene.media.media_page(None, None, 9).unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_stands_still_is_given_up() {
    let scene = Scene::new().await;
    let stuck = stream::iter([Ok::<_, io::Error>(Bytes::from_static(b"half"))]).chain(stream::pending());
    assert!(matches!(scene.media.upload(alice(), NewFile::default(), stuck).await, Err(Error::CutOff(_))));
}

#[tokio::test]
async fn who_waits_for_an_upload_gets_it() {
    let scene = Arc::new(Scene::new().await);
    let pending = scene.media.create(alice()).await.unwrap();
    assert!(matches!(scene.content(&pending.mxc).await, Err(Error::NotYetUploaded)));
    let waiting = tokio::spawn({
        let (scene, mxc) = (scene.clone(), pending.mxc.clone());
        async move { scene.media.find(&mxc, Wanted::default()).await.map(|file| file.bytes) }
    });
    tokio::task::yield_now().await;
    let file = || NewFile { content_type: Some("text/plain".to_owned()), ..NewFile::default() };
    let by_other = scene.media.upload_to(bob(), &pending.mxc, file(), body(b"mine")).await;
    assert!(matches!(by_other, Err(Error::NotTheCreator)));
    scene.media.upload_to(alice(), &pending.mxc, file(), body(b"here")).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), 4);
    let again = scene.media.upload_to(alice(), &pending.mxc, file(), body(b"more")).await;
    assert!(matches!(again, Err(Error::CannotOverwrite)));
    assert_eq!(scene.media.info(&pending.mxc).unwrap().unwrap().record.content_type, "text/plain");
    let unknown = Mxc::parse("mxc://x.example/unknown").unwrap();
    assert!(matches!(scene.media.upload_to(alice(), &unknown, file(), body(b"x")).await, Err(Error::NotFound)));
}

#[tokio::test]
async fn names_without_an_upload_are_few_and_expire() {
    let scene = Scene::with(|config| config.user_pending_max = 2).await;
    let first = scene.media.create(alice()).await.unwrap();
    scene.media.create(alice()).await.unwrap();
    assert!(matches!(scene.media.create(alice()).await, Err(Error::TooManyPending)));
    scene.media.create(bob()).await.unwrap();
    scene.clock.advance(Duration::from_hours(24));
    assert_eq!(first.expires_at, scene.clock.now());
    let late = scene.media.upload_to(alice(), &first.mxc, NewFile::default(), body(b"late")).await;
    assert!(matches!(late, Err(Error::NotFound)));
    assert!(matches!(scene.content(&first.mxc).await, Err(Error::NotFound)));
    let third = scene.media.create(alice()).await.unwrap();
    scene.media.clear().await.unwrap();
    assert!(scene.media.info(&first.mxc).unwrap().is_none());
    assert!(scene.media.info(&third.mxc).unwrap().is_some());
}

#[tokio::test]
async fn a_scanner_decides_what_comes_in() {
    let scene = Scene::new().await;
    let before = scene.upload(alice(), b"virus").await.unwrap();
    let scanner = Arc::new(FakeScanner::default());
    scene.media.set_scanner(scanner.clone());
    scene.upload(alice(), b"harmless").await.unwrap();
    assert!(matches!(scene.upload(alice(), b"virus").await, Err(Error::Refused)));
    assert!(matches!(scene.content(&before).await, Err(Error::NotFound)), "what was there already is caught too");
    let asked = scanner.asked.load(Ordering::SeqCst);
    assert!(matches!(scene.upload(bob(), b"virus").await, Err(Error::Refused)));
    scene.upload(bob(), b"harmless").await.unwrap();
    assert_eq!(scanner.asked.load(Ordering::SeqCst), asked, "what is known is not scanned again");
    // By the settings as they are, nobody gets what can't be looked into.
    assert!(matches!(scene.upload(alice(), b"locked").await, Err(Error::Refused)));
    let down = scene.upload(alice(), b"down").await.unwrap();
    assert!(matches!(scene.content(&down).await, Err(Error::NotYetUploaded)));
    scene.media.set_verdict(&hash(b"virus"), VerdictState::Clean, "another").await.unwrap();
    assert!(matches!(scene.content(&before).await, Err(Error::NotFound)), "what was found stays found");
}

#[tokio::test]
async fn an_open_policy_lets_through_what_can_not_be_scanned() {
    let scene = Scene::with(|config| config.scan.policy = ScanPolicy::Open).await;
    scene.media.set_scanner(Arc::new(FakeScanner::default()));
    let patient = Wanted::default();
    for bytes in [&b"locked"[..], b"down"] {
        let mxc = scene.upload(alice(), bytes).await.unwrap();
        assert_eq!(scene.media.find(&mxc, patient).await.unwrap().sha256, hash(bytes));
    }
    assert!(matches!(scene.upload(alice(), b"virus").await, Err(Error::Refused)));
}

#[tokio::test]
async fn the_same_bytes_are_scanned_once_at_a_time_and_waited_for() {
    let scene = Arc::new(Scene::with(|config| config.scan.upload_wait = Duration::ZERO).await);
    let scanner = Arc::new(FakeScanner { go: Some(Notify::new()), ..FakeScanner::default() });
    scene.media.set_scanner(scanner.clone());
    let mxc = scene.upload(alice(), b"looked at").await.unwrap();
    assert!(matches!(scene.content(&mxc).await, Err(Error::NotYetUploaded)));
    let wait = || {
        let (scene, mxc) = (scene.clone(), mxc.clone());
        tokio::spawn(async move { scene.media.find(&mxc, Wanted::default()).await.map(|_| ()) })
    };
    let waiting = [wait(), wait()];
    tokio::task::yield_now().await;
    scanner.go.as_ref().unwrap().notify_one();
    for waiting in waiting {
        waiting.await.unwrap().unwrap();
    }
    assert_eq!(scanner.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_clean_verdict_holds_as_long_as_the_settings_say() {
    let scene = Scene::with(|config| config.scan.clean_lifetime = Some(Duration::from_hours(1))).await;
    let scanner = Arc::new(FakeScanner::default());
    scene.media.set_scanner(scanner.clone());
    let mxc = scene.upload(alice(), b"harmless").await.unwrap();
    scene.content(&mxc).await.unwrap();
    assert_eq!(scanner.asked.load(Ordering::SeqCst), 1);
    scene.clock.advance(Duration::from_hours(1));
    scene.media.find(&mxc, Wanted::default()).await.unwrap();
    assert_eq!(scanner.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_quarantine_is_for_the_bytes_under_every_name() {
    let scene = Scene::new().await;
    let one = scene.upload(alice(), b"bad").await.unwrap();
    let two = scene.upload(bob(), b"bad").await.unwrap();
    let good = scene.upload(alice(), b"good").await.unwrap();
    scene.media.protect(&good, true).await.unwrap();
    assert!(matches!(scene.media.quarantine(&good, bob()).await, Err(Error::Protected)));
    assert_eq!(scene.media.quarantine_user(alice(), bob()).await.unwrap(), 1);
    for mxc in [&one, &two] {
        assert!(matches!(scene.content(mxc).await, Err(Error::NotFound)));
    }
    assert_eq!(scene.media.info(&two).unwrap().unwrap().blocked.unwrap().by.as_deref(), Some(bob()));
    let even_blocked = Wanted { even_blocked: true, ..at_once() };
    assert_eq!(scene.media.find(&one, even_blocked).await.unwrap().bytes, 3);
    assert!(matches!(scene.upload(alice(), b"bad").await, Err(Error::Refused)));
    assert_eq!(scene.content(&good).await.unwrap(), b"good");
    assert!(scene.media.unquarantine(&two).await.unwrap());
    assert_eq!(scene.content(&one).await.unwrap(), b"bad");
    let gone = scene.media.delete_hash(&hash(b"bad"), Some(bob())).await.unwrap();
    assert_eq!(gone.len(), 2);
    assert!(matches!(scene.upload(alice(), b"bad").await, Err(Error::Refused)));
}

#[tokio::test]
async fn media_of_other_servers_are_fetched_once_for_all_who_ask() {
    let scene = Arc::new(Scene::new().await);
    assert!(matches!(scene.content(&far("far")).await, Err(Error::NotFound)), "nobody asks other servers yet");
    let remote = remote(&scene);
    let only_here = Wanted { allow_remote: false, ..at_once() };
    assert!(matches!(scene.media.find(&far("far"), only_here).await, Err(Error::NotFound)));
    let ask = || {
        let scene = scene.clone();
        tokio::spawn(async move { scene.content(&far("far")).await })
    };
    let asking = [ask(), ask()];
    tokio::task::yield_now().await;
    remote.go.notify_one();
    for asking in asking {
        assert_eq!(asking.await.unwrap().unwrap(), b"far away");
    }
    assert_eq!(remote.asked.load(Ordering::SeqCst), 1);
    let found = scene.media.find(&far("far"), only_here).await.unwrap();
    assert_eq!((found.filename.as_deref(), found.uploader), (Some("far.txt"), None));
}

#[tokio::test]
async fn what_other_servers_give_wrongly_is_not_kept() {
    let scene = Scene::new().await;
    let remote = remote(&scene);
    scene.media.set_scanner(Arc::new(FakeScanner::default()));
    let ask = async |id: &str| {
        remote.go.notify_one();
        scene.content(&far(id)).await
    };
    assert!(matches!(ask("large").await, Err(Error::RemoteTooLarge)));
    assert!(matches!(ask("short").await, Err(Error::Remote(_))));
    assert!(matches!(ask("unknown").await, Err(Error::NotFound)));
    assert!(matches!(ask("virus").await, Err(Error::NotFound)));
    assert!(scene.media.media_page(None, None, 9).unwrap().iter().all(|(mxc, _)| *mxc == far("virus")));
}

#[tokio::test]
async fn what_nobody_asks_for_any_more_goes_when_its_time_has_come() {
    let day = Duration::from_hours(24);
    let scene = Scene::with(|config| {
        config.retention.local = Some(10 * day);
        config.retention.remote = Some(3 * day);
    })
    .await;
    remote(&scene).go.notify_one();
    scene.content(&far("far")).await.unwrap();
    let (old, used, kept) = (
        scene.upload(alice(), b"old").await.unwrap(),
        scene.upload(alice(), b"used").await.unwrap(),
        scene.upload(alice(), b"kept").await.unwrap(),
    );
    let picture = scene.upload(alice(), b"picture").await.unwrap();
    scene.media.protect(&kept, true).await.unwrap();
    let mut changes = scene.records.changes(&scene.records.view());
    let profile = [("avatar_url".to_owned(), format!("\"{picture}\""))];
    changes.put_profile(alice(), &profile.into_iter().collect()).unwrap();
    scene.records.commit(changes).await.unwrap();
    let exists = |mxc: &Mxc| scene.media.info(mxc).unwrap().is_some();
    scene.clock.advance(4 * day);
    scene.content(&used).await.unwrap();
    scene.media.clear().await.unwrap();
    assert!(!exists(&far("far")) && exists(&old));
    scene.clock.advance(7 * day);
    scene.media.clear().await.unwrap();
    assert!(!exists(&old) && exists(&used) && exists(&kept) && exists(&picture));
}

#[tokio::test]
async fn files_that_a_crash_has_left_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::over(Blobs::folder(folder.path()).unwrap(), |_| {}).await;
    let known = scene.upload(alice(), b"known").await.unwrap();
    let left = folder.path().join(format!("blobs/ab/ab{}", "0".repeat(62)));
    std::fs::write(&left, "left").unwrap();
    scene.media.clear_left_over(UnixMillis(0)).await.unwrap();
    assert!(left.exists(), "what is young may be about to get its row");
    scene.media.clear_left_over(UnixMillis(u64::MAX)).await.unwrap();
    assert!(!left.exists());
    assert_eq!(scene.content(&known).await.unwrap(), b"known");
}

#[tokio::test]
async fn old_endpoints_serve_what_came_before_the_freeze() {
    let scene = Scene::with(|config| {
        config.legacy = crate::Legacy::Frozen;
        config.legacy_frozen_at = Some(1_700_000_060);
    })
    .await;
    let before = scene.upload(alice(), b"before").await.unwrap();
    scene.clock.advance(Duration::from_mins(1));
    let after = scene.upload(alice(), b"after").await.unwrap();
    let legacy = Wanted { legacy: true, ..at_once() };
    assert!(scene.media.find(&before, legacy).await.is_ok());
    assert!(matches!(scene.media.find(&after, legacy).await, Err(Error::NotFound)));
    assert!(scene.media.find(&after, at_once()).await.is_ok());
    let remote = remote(&scene);
    assert!(matches!(scene.media.find(&far("far"), legacy).await, Err(Error::NotFound)));
    assert_eq!(remote.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_new_server_serves_nothing_at_the_old_endpoints() {
    let scene = Scene::new().await;
    let mxc = scene.upload(alice(), b"x").await.unwrap();
    let legacy = Wanted { legacy: true, ..at_once() };
    assert!(matches!(scene.media.find(&mxc, legacy).await, Err(Error::NotFound)));
}

#[tokio::test]
async fn a_preview_goes_with_its_picture_when_it_is_not_shown_any_more() {
    let scene = Scene::new().await;
    let image = scene.upload(alice(), b"picture").await.unwrap();
    let made = scene.records.view().media(&image).unwrap().unwrap();
    let mut changes = scene.records.changes(&scene.records.view());
    let until = scene.clock.now().after(Duration::from_hours(1));
    let record = records::MediaRecord { uploader: None, expires_at: Some(until), ..made };
    let picture = Mxc::new(server_name!("x.example"), "picture").unwrap();
    changes.put_media(&picture, Some(&record)).unwrap();
    let preview =
        records::PreviewRecord { json: None, image: Some(picture.to_string()), expires_at: scene.clock.now() };
    changes.put_url_preview(&hash(b"page"), scene.clock.now(), Some(&preview));
    scene.records.commit(changes).await.unwrap();
    scene.media.clear().await.unwrap();
    assert_eq!(scene.content(&picture).await.unwrap(), b"picture");
    scene.clock.advance(Duration::from_hours(48));
    assert!(matches!(scene.content(&picture).await, Err(Error::NotFound)));
    scene.media.clear().await.unwrap();
    assert!(scene.media.info(&picture).unwrap().is_none() && scene.media.info(&image).unwrap().is_some());
    assert!(scene.records.view().url_preview(&hash(b"page")).unwrap().is_none());
}
