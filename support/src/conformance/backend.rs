//! The backends: each creates empty archives, and says in what it differs.

use std::{
    collections::BTreeMap,
    fs,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectStore, ObjectStoreExt, aws::AmazonS3Builder, path::Path};
use tempfile::TempDir;
use walkeep::{
    archive::{Archive, ArchiveOptions, ArchiveUrl, StoreOptions, memory::Memory},
    wal::SystemIdentifier,
};

use crate::{
    sandbox::Sandbox,
    store::{Store, garage},
};

/// A kind of archive.
pub trait Backend: Sync {
    /// Returns the options that open the archive of that name. The name becomes a part of the archive's keys.
    fn archive(&self, name: &str) -> ArchiveOptions;

    /// Writes files below that archive without its knowledge.
    fn put(&self, name: &str, files: &[(String, &[u8])]);

    /// Returns `true` if creating a file fails when its name is taken, which also decides between concurrent creates.
    /// Otherwise a caller must look the name up first.
    fn honours_conditions(&self) -> bool {
        true
    }

    /// Returns `true` for a directory. Unlike a store, it reports whether a file to delete existed, has empty
    /// directories, and recognizes its own unfinished files.
    fn is_directory(&self) -> bool {
        false
    }
}

/// An archive for one test.
pub struct Scene<'a> {
    pub backend: &'a dyn Backend,
    pub name: String,
    pub archive: Archive,
    pub system: SystemIdentifier,
}

impl<'a> Scene<'a> {
    /// Creates an empty archive.
    pub async fn new(backend: &'a dyn Backend) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("archive-{:03}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let archive = Archive::open(&backend.archive(&name)).await.unwrap();
        Self { backend, name, archive, system: SystemIdentifier::new(7_381_092_445_103_374_871).unwrap() }
    }

    /// Writes a file below the archive without its knowledge.
    pub fn put(&self, key: &str, content: &[u8]) {
        self.backend.put(&self.name, &[(key.to_owned(), content)]);
    }

    /// Does the same as [`Scene::put`] below the directory of the system.
    pub fn put_of_system(&self, key: &str, content: &[u8]) {
        self.put_many_of_system(&[(key.to_owned(), content)]);
    }

    /// Does the same as [`Scene::put_of_system`] for many files.
    pub fn put_many_of_system(&self, files: &[(String, &[u8])]) {
        let below = |(key, content): &(String, _)| (format!("{}/{key}", self.system), *content);
        self.backend.put(&self.name, &files.iter().map(below).collect::<Vec<_>>());
    }
}

/// Archives in the memory of this process.
pub struct InMemory(Memory);

impl InMemory {
    pub fn empty() -> Self {
        Self(Memory::new())
    }
}

impl Backend for InMemory {
    fn archive(&self, name: &str) -> ArchiveOptions {
        self.0.options_at(name)
    }

    fn put(&self, name: &str, files: &[(String, &[u8])]) {
        for (key, content) in files {
            self.0.put(&format!("{name}/{key}"), content.to_vec());
        }
    }
}

/// Archives in a directory of this machine.
pub struct Directory(TempDir);

impl Directory {
    pub fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Backend for Directory {
    fn archive(&self, name: &str) -> ArchiveOptions {
        let path = self.0.path().join(name);
        fs::create_dir_all(&path).unwrap();
        let url = ArchiveUrl::Directory(path);
        ArchiveOptions::new(url, StoreOptions::default())
    }

    fn put(&self, name: &str, files: &[(String, &[u8])]) {
        for (key, content) in files {
            let file = self.0.path().join(name).join(key);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
    }

    fn is_directory(&self) -> bool {
        true
    }
}

/// Archives in the S3 server of this process.
pub struct Bucket(Store);

impl Bucket {
    pub fn empty() -> Self {
        Self(Store::new())
    }
}

impl Backend for Bucket {
    fn archive(&self, name: &str) -> ArchiveOptions {
        in_bucket(name, &self.0.environment())
    }

    fn put(&self, name: &str, files: &[(String, &[u8])]) {
        put(name, files, &self.0.environment());
    }
}

/// Archives in a real S3 server.
pub struct InGarage<'a>(garage::Garage<'a>);

impl<'a> InGarage<'a> {
    pub fn start(sandbox: &'a Sandbox) -> Self {
        Self(garage::Garage::start(sandbox))
    }
}

impl Backend for InGarage<'_> {
    fn archive(&self, name: &str) -> ArchiveOptions {
        in_bucket(name, &self.0.environment())
    }

    fn put(&self, name: &str, files: &[(String, &[u8])]) {
        put(name, files, &self.0.environment());
    }

    fn honours_conditions(&self) -> bool {
        false
    }
}

fn in_bucket(name: &str, environment: &[(&'static str, String)]) -> ArchiveOptions {
    let url = format!("s3://{}/{name}", garage::Garage::bucket()).parse().unwrap();
    let environment: BTreeMap<String, String> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let store = StoreOptions { environment, ..StoreOptions::default() };
    ArchiveOptions::new(url, store)
}

/// Puts objects with the library's own client.
fn put(name: &str, files: &[(String, &[u8])], environment: &[(&'static str, String)]) {
    let value = |wanted| environment.iter().find(|(name, _)| *name == wanted).unwrap().1.clone();
    let client = AmazonS3Builder::new()
        .with_bucket_name(garage::Garage::bucket())
        .with_endpoint(value("AWS_ENDPOINT_URL"))
        .with_access_key_id(value("AWS_ACCESS_KEY_ID"))
        .with_secret_access_key(value("AWS_SECRET_ACCESS_KEY"))
        .with_region(value("AWS_REGION"))
        .with_allow_http(true)
        .build()
        .unwrap();
    put_by(&client, name, files);
}

/// Puts objects with a client, several at a time.
pub(super) fn put_by(client: &impl ObjectStore, name: &str, files: &[(String, &[u8])]) {
    let putting = stream::iter(files).map(|(key, content)| {
        let (key, content) = (Path::parse(format!("{name}/{key}")).unwrap(), content.to_vec());
        async move { client.put(&key, content.into()).await }
    });
    let putting = putting.buffer_unordered(8).try_collect::<Vec<_>>();
    // On a thread of its own, because the caller's belongs to a runtime.
    thread::scope(|scope| drop(scope.spawn(|| run(putting)).join().unwrap().unwrap()));
}

/// Runs asynchronous work in a runtime with two threads.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}
