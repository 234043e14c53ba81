//! A store in the memory of this process, which does on order what a real one does by mischance.
//!
//! It is a store like the others but for its objects, so all that walkeep makes of a store's answers is what it makes of these:
//! what is torn, refused, lost or never said comes as it would come from S3, below the same code.
//!
//! No URL names it: only code can hand it over, and no program of walkeep's does.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use walkeep::archive::memory::{Fault, Memory, When};
//! use walkeep::archive::{Archive, Asked};
//! use walkeep::error::ErrorKind;
//! use walkeep::wal::{SystemIdentifier, WalName};
//!
//! let memory = Memory::new();
//! memory.put("7/timelines/00000002.history", "what is archived has a frame, and this has none");
//! // Or `&memory.options()`, for whatever opens the archive itself: push, restore, the commands.
//! let archive = Archive::in_memory(&memory)?;
//! let system = SystemIdentifier::new(7).unwrap();
//! let holds = async |name: &str| archive.holds(system, name.parse::<WalName>().unwrap()).await;
//! assert!(holds("00000002.history").await?);
//!
//! memory.order(When::nth(2, Asked::Look), Fault::Busy);
//! assert!(!holds("00000003.history").await?);
//! assert_eq!(holds("00000002.history").await.unwrap_err().kind(), ErrorKind::Unavailable);
//! assert!(holds("00000002.history").await?);
//!
//! // Another process deletes the file as soon as it has been listed.
//! memory.after(When::first(Asked::List), |memory| memory.remove("7/timelines/00000002.history"));
//! assert_eq!(archive.inventory(system).await?.files.len(), 1);
//! assert!(!holds("00000002.history").await?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod objects;
mod orders;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::archive::ArchiveOptions;
use crate::archive::failure::Asked;
use crate::archive::store::given::Objects;
use crate::archive::store::options::StoreOptions;
use crate::archive::url::{ArchiveUrl, Provider, StoreUrl};
use orders::{Action, Ordered, Orders};
pub use orders::{Fault, When};

/// Bucket of its URL, for messages.
const BUCKET: &str = "memory";

/// A store in memory. Clones are the same store, and so are all archives opened on it.
#[derive(Clone, Default)]
pub struct Memory {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    objects: InMemory,
    orders: Mutex<Orders>,
    asked: Mutex<Vec<(Asked, String)>>,
    /// Additional age of objects.
    ages: Mutex<HashMap<Key, Duration>>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Memory").field(&self.keys()).finish()
    }
}

impl Memory {
    /// Creates an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the options to open the whole store as an archive.
    #[must_use]
    pub fn options(&self) -> ArchiveOptions {
        self.options_at("")
    }

    /// Returns the options to open the part with a prefix, such as `main/cluster`, as an archive.
    #[must_use]
    pub fn options_at(&self, prefix: &str) -> ArchiveOptions {
        let url = StoreUrl { provider: Provider::S3, bucket: BUCKET.to_owned(), prefix: Key::from(prefix) };
        let identity = Arc::as_ptr(&self.inner).addr();
        let objects = Objects { objects: Arc::new(self.clone()), identity };
        let store = StoreOptions { objects: Some(objects), ..StoreOptions::default() };
        ArchiveOptions::new(ArchiveUrl::Store(url), store)
    }

    /// Orders a fault. Of several for one request, the first order applies.
    pub fn order(&self, when: When, fault: Fault) {
        held(&self.inner.orders).add(when, Ordered::Fault(fault));
    }

    /// Runs `action` just before a request is executed, as another process might.
    pub fn before(&self, when: When, action: impl Fn(&Self) + Send + Sync + 'static) {
        held(&self.inner.orders).add(when, Ordered::Before(Arc::new(action)));
    }

    /// Runs `action` just after a request is executed, before its response arrives.
    pub fn after(&self, when: When, action: impl Fn(&Self) + Send + Sync + 'static) {
        held(&self.inner.orders).add(when, Ordered::After(Arc::new(action)));
    }

    /// Revokes all orders.
    pub fn heal(&self) {
        held(&self.inner.orders).clear();
    }

    /// Returns the requests so far, in order, each with its key: for a listing, the directory.
    #[must_use]
    pub fn asked(&self) -> Vec<(Asked, String)> {
        held(&self.inner.asked).clone()
    }

    /// Returns the number of requests of that kind so far.
    #[must_use]
    pub fn times(&self, asked: Asked) -> usize {
        held(&self.inner.asked).iter().filter(|(what, _)| *what == asked).count()
    }

    /// Stores an object without a request.
    pub fn put(&self, key: &str, content: impl Into<Bytes>) {
        let key = parsed(key);
        held(&self.inner.ages).remove(&key);
        let _ = self.inner.objects.put(&key, content.into().into()).now_or_never();
    }

    /// Reads an object without a request; `None` if it does not exist.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Bytes> {
        let reading = async { self.inner.objects.get(&parsed(key)).await?.bytes().await };
        reading.now_or_never()?.ok()
    }

    /// Deletes an object without a request.
    pub fn remove(&self, key: &str) {
        let key = parsed(key);
        held(&self.inner.ages).remove(&key);
        let _ = self.inner.objects.delete(&key).now_or_never();
    }

    /// Makes an object older.
    pub fn age(&self, key: &str, by: Duration) {
        held(&self.inner.ages).insert(parsed(key), by);
    }

    /// Returns the keys of all objects, sorted.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let listing =
            self.inner.objects.list(None).map(|found| found.map(|found| found.location.to_string()));
        let keys: Option<Vec<_>> = listing.collect().now_or_never();
        keys.into_iter().flatten().flatten().collect()
    }

    /// Records a request, and returns the actions and the fault ordered for it.
    fn hear(&self, asked: Asked, key: &Key) -> (Vec<Action>, Option<Fault>, Vec<Action>) {
        held(&self.inner.asked).push((asked, key.to_string()));
        held(&self.inner.orders).due(asked, key.as_ref())
    }
}

/// Returns the key as it is, as a listing of a store gives it. Only what cannot be a key at all is encoded.
fn parsed(key: &str) -> Key {
    Key::parse(key).unwrap_or_else(|_| Key::from(key))
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{Archive, Created};
    use crate::error::{Error, ErrorKind};
    use crate::frame::Content;
    use crate::wal::{SystemIdentifier, WalName};
    use std::io::Read;
    use tokio_util::sync::CancellationToken;

    const KEY: &str = "7/timelines/00000002.history";

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    fn scene() -> (Memory, Archive, SystemIdentifier, WalName) {
        let memory = Memory::new();
        let archive = Archive::in_memory(&memory).unwrap();
        (memory, archive, SystemIdentifier::new(7).unwrap(), "00000002.history".parse().unwrap())
    }

    fn content(text: &str) -> Content<std::fs::File> {
        Content::Memory(vec![Bytes::copy_from_slice(text.as_bytes())])
    }

    /// Returns the result of each kind of request with a fault: the kind of the error, and `true` for a timeout.
    fn outcomes(fault: &Fault) -> [Option<(ErrorKind, bool)>; 5] {
        let (memory, archive, system, name) = scene();
        memory.put(KEY, "x");
        let kind = |error: Error| (error.kind(), error.is_timeout());
        let files = run(archive.inventory(system)).unwrap().files;
        let other: WalName = "00000003.history".parse().unwrap();
        for asked in [Asked::Create, Asked::Read, Asked::Look, Asked::List, Asked::Delete] {
            memory.order(When::every(asked), fault.clone());
        }
        run(async {
            [
                archive.create(system, other, content("y")).await.err().map(kind),
                archive.fetch(system, name).await.err().map(kind),
                archive.holds(system, name).await.err().map(kind),
                archive.inventory(system).await.err().map(kind),
                archive
                    .delete(system, &files, &CancellationToken::default(), &mut |_| ())
                    .await
                    .err()
                    .map(kind),
            ]
        })
    }

    #[test]
    fn faults_have_the_same_meaning_as_in_a_real_store() {
        use ErrorKind::{Refused, Unavailable};
        let all = |kind, timed_out| [Some((kind, timed_out)); 5];
        assert_eq!(outcomes(&Fault::Busy), all(Unavailable, false));
        assert_eq!(outcomes(&Fault::Refused), all(Refused, false));
        assert_eq!(outcomes(&Fault::TimedOut), all(Unavailable, true));
        assert_eq!(outcomes(&Fault::BrokenOff), all(Unavailable, false));
        assert_eq!(outcomes(&Fault::AnswerLost), all(Unavailable, false));
        // The response to a HEAD contains only the status.
        let mut no_bucket = all(Refused, false);
        no_bucket[2] = None;
        assert_eq!(outcomes(&Fault::NoBucket), no_bucket);
        let mut no_store = all(Unavailable, false);
        no_store[2] = None;
        assert_eq!(outcomes(&Fault::NoStore), no_store);
        assert_eq!(outcomes(&Fault::Slow(Duration::from_millis(1))), [None; 5]);
    }

    #[test]
    fn a_create_with_a_lost_answer_was_executed_and_a_broken_one_was_not() {
        let (memory, archive, system, name) = scene();
        for (fault, is_there) in [(Fault::BrokenOff, false), (Fault::AnswerLost, true)] {
            memory.order(When::first(Asked::Create), fault);
            assert!(run(archive.create(system, name, content("x"))).is_err());
            assert_eq!(memory.get(KEY).is_some(), is_there);
        }
        assert_eq!(run(archive.create(system, name, content("y"))).unwrap(), Created::Exists);
        assert_eq!((memory.get(KEY).unwrap(), memory.times(Asked::Create)), ("x".into(), 3));
    }

    #[test]
    fn a_truncated_body_is_an_error_after_the_received_part() {
        let (memory, archive, system, name) = scene();
        memory.put(KEY, "all of it");
        memory.order(When::first(Asked::Read), Fault::TornAfter(3));
        let (read, outcome) = run(async {
            let mut fetched = archive.fetch(system, name).await.unwrap();
            let _transfer = fetched.transfer.take();
            assert_eq!(fetched.stored_size, 9);
            tokio::task::spawn_blocking(move || {
                let mut read = Vec::new();
                let outcome = fetched.reader.read_to_end(&mut read);
                (read, outcome)
            })
            .await
            .unwrap()
        });
        assert_eq!(read, b"all");
        assert!(outcome.is_err());
    }

    #[test]
    fn a_truncated_listing_is_a_failure() {
        let (memory, archive, system, _) = scene();
        for number in 1..=2500 {
            memory.put(&format!("7/timelines/{number:08X}.history"), "x");
        }
        assert_eq!(run(archive.inventory(system)).unwrap().files.len(), 2500);
        assert_eq!(memory.times(Asked::List), 3, "a page has a thousand names");
        for (nth, fault) in [(1, Fault::TornAfter(7)), (2, Fault::Busy), (3, Fault::TornAfter(0))] {
            memory.order(When::nth(nth, Asked::List), fault);
            assert_eq!(run(archive.inventory(system)).unwrap_err().kind(), ErrorKind::Unavailable);
        }
        memory.order(When::first(Asked::List), Fault::TornAfter(7));
        assert!(run(archive.timelines(system)).is_err());
        assert_eq!(run(archive.timelines(system)).unwrap().len(), 2500);
    }

    #[test]
    fn actions_run_just_before_and_just_after_a_request() {
        let (memory, archive, system, name) = scene();
        memory.before(When::first(Asked::Create), |memory| memory.put(KEY, "theirs"));
        assert_eq!(run(archive.create(system, name, content("ours"))).unwrap(), Created::Exists);
        memory.after(When::first(Asked::List), |memory| memory.remove(KEY));
        assert_eq!(run(archive.inventory(system)).unwrap().files.len(), 1);
        assert_eq!(run(archive.fetch(system, name)).err().unwrap().kind(), ErrorKind::Absent);
        assert!(run(archive.inventory(system)).is_err());
    }

    #[test]
    fn an_object_can_be_old() {
        let (memory, archive, system, name) = scene();
        let since = || run(archive.inventory(system)).unwrap().files[0].since;
        run(archive.create(system, name, content("x"))).unwrap();
        let young = since();
        memory.age(KEY, Duration::from_hours(24));
        assert_eq!(young.duration_since(since()).as_hours(), 24);
        memory.put(KEY, "x");
        assert!(since() >= young);
    }

    #[test]
    fn archives_in_one_store_are_separate_and_stores_are_distinct() {
        let (memory, archive, system, name) = scene();
        let main = run(Archive::open(&memory.options_at("main/a"))).unwrap();
        run(main.create(system, name, content("x"))).unwrap();
        assert_eq!(memory.keys(), [format!("main/a/{KEY}")]);
        assert!(!run(archive.holds(system, name)).unwrap());
        let other = Memory::new();
        let identity = |memory: &Memory, prefix| memory.options_at(prefix).identity().unwrap();
        assert_eq!(
            (memory.options(), identity(&memory, "")),
            (memory.options(), identity(&memory.clone(), ""))
        );
        assert_ne!((memory.options(), identity(&memory, "")), (other.options(), identity(&other, "")));
        assert_ne!(identity(&memory, ""), identity(&memory, "main/a"));
    }
}
