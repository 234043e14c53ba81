//! Prefetching from an object store: few requests and connections, and failures of the store are reported by the call
//! itself, as without prefetching.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{
    collections::BTreeMap,
    fs,
    ops::RangeInclusive,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use support::{
    data_directory::DataDirectory,
    prefetcher::{From, Prefetchers, content, left_in_spools, name, restored_as},
    push::succeeds,
    running::{Outcome, outcome_of},
    sandbox::Sandbox,
    store::{
        Store,
        fault::{Fault, Matching},
        identity::Identity,
    },
    store_cluster::knowing,
    store_scene::{StoreScene, key},
    wait_until,
    wrapper::wrapped,
};

const LATER: Fault = Fault::Answer { status: 503, code: "SlowDown", message: "Later." };

/// [`name`] of 5.
const FIFTH: &str = "000000010000000000000005";

/// Default number of concurrent requests.
const CONNECTIONS: usize = 12;

/// Long enough for something that must not happen.
const A_WHILE: Duration = Duration::from_millis(500);

/// A store, a server that recovers from it, and the prefetchers that its calls start.
struct Ahead {
    // Ends before the directory is removed: fields are dropped in this order.
    prefetchers: Prefetchers,
    scene: StoreScene,
}

impl Ahead {
    /// Creates a store with these segments. Requests are counted from here on.
    fn with(numbers: RangeInclusive<usize>) -> Self {
        let mut scene = StoreScene::with_conditional_put("yes");
        scene.set("WALKEEP_PREFETCH_SIZE", "256MB");
        for name in numbers.map(name) {
            scene.primary.file(&format!("pg_wal/{name}"), content(&name));
            succeeds(scene.push(&name));
        }
        scene.store.forget_requests();
        Self { prefetchers: Prefetchers::of(&scene.sandbox), scene }
    }

    fn call(&self, server: &DataDirectory, name: &str) -> Command {
        let mut call = self.scene.restore(server, name);
        call.arg("-v");
        call
    }

    fn restored(&self, number: usize) -> From {
        self.restored_by(self.call(&self.scene.recovery, &name(number)), number)
    }

    fn restored_by(&self, call: Command, number: usize) -> From {
        restored_as(call, &self.scene.recovery, &name(number), &content(&name(number)))
    }

    /// Returns the number of requests per file, by the end of its name; there were no others but listings.
    fn asked(&self) -> BTreeMap<String, usize> {
        let mut asked = BTreeMap::new();
        for request in self.scene.store.requests() {
            assert_eq!(request.method, "GET");
            if request.query.is_some() {
                continue;
            }
            *asked.entry(request.path.rsplit('/').next().unwrap().to_owned()).or_default() += 1;
        }
        asked
    }
}

fn once(names: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    names.into_iter().map(|name| (name, 1)).collect()
}

#[test]
fn segments_come_from_the_prefetcher_and_each_is_asked_for_once() {
    let ahead = Ahead::with(1..=30);
    assert_eq!(ahead.restored(1), From::Archive);
    ahead.prefetchers.wait_until_held(29);
    for number in 2..=30 {
        assert_eq!(ahead.restored(number), From::Prefetcher, "{number}");
    }
    ahead.prefetchers.wait_until_none();
    let asked = ahead.asked();
    assert!(asked.values().all(|times| *times == 1), "{asked:?}");
    // Requests beyond the end are those in progress when the first absence was noticed.
    assert!((31..=30 + CONNECTIONS).contains(&asked.len()), "{asked:?}");
    assert_eq!(left_in_spools(&ahead.scene.sandbox.join("spool")), [""; 0]);
}

#[test]
fn connections_are_reused() {
    let mut ahead = Ahead::with(1..=40);
    let file = ahead.scene.sandbox.file("few.toml", "connections = 3\nprefetch_size = \"8MB\"\n");
    ahead.scene.set("WALKEEP_CONFIG", file.to_str().unwrap());
    let before = ahead.scene.store.connections();
    let mut from = Vec::new();
    for number in 1..=40 {
        from.push(ahead.restored(number));
    }
    ahead.prefetchers.wait_until_none();
    let from_archive = from.iter().filter(|from| **from == From::Archive).count();
    let connections = ahead.scene.store.connections() - before;
    // One for each call that asked itself, three for the prefetcher, and one more for each that was about to become
    // idle.
    assert!(connections <= from_archive + 8, "{connections}, {from_archive} from the archive");
    assert!(from_archive < 10, "{from_archive}");
    assert!(ahead.asked().values().all(|times| *times <= 2), "{:?}", ahead.asked());
}

#[test]
fn one_request_runs_first_and_three_more_after_each_success() {
    for succeeding in [0, 1, 3, 20] {
        let ahead = Ahead::with(1..=60);
        // The call's own request and some of the prefetcher's succeed. The others hang.
        ahead.scene.store.break_times(1 + succeeding, Matching::Gets, Fault::None);
        ahead.scene.store.break_with(Matching::Gets, Fault::Hang);
        assert_eq!(ahead.restored(1), From::Archive);
        let expected = 1 + succeeding + CONNECTIONS.min(1 + 3 * succeeding);
        let requests = || ahead.scene.store.requests().len();
        wait_until("all have come that may", || requests() >= expected);
        thread::sleep(A_WHILE);
        assert_eq!(requests(), expected, "{succeeding}");
        let first_by_itself = &ahead.scene.store.requests()[1];
        assert!(first_by_itself.path.ends_with(&name(2)));
    }
}

#[test]
fn the_number_of_concurrent_requests_is_configurable() {
    let mut ahead = Ahead::with(1..=30);
    let file = ahead.scene.sandbox.file("few.toml", "connections = 3\n");
    ahead.scene.set("WALKEEP_CONFIG", file.to_str().unwrap());
    ahead.scene.store.break_times(11, Matching::Gets, Fault::None);
    ahead.scene.store.break_with(Matching::Gets, Fault::Hang);
    assert_eq!(ahead.restored(1), From::Archive);
    let requests = || ahead.scene.store.requests().len();
    wait_until("all have come that may", || requests() >= 14);
    thread::sleep(A_WHILE);
    assert_eq!(requests(), 14);
}

#[test]
fn a_standby_that_has_caught_up_costs_one_extra_request_per_segment_and_none_while_idle() {
    let ahead = Ahead::with(1..=1);
    let standby = &ahead.scene.standby;
    for number in 1..=3 {
        let (this, next) = (name(number), name(number + 1));
        ahead.scene.store.forget_requests();
        let call = ahead.call(standby, &this);
        assert_eq!(restored_as(call, standby, &this, &content(&this)), From::Archive);
        // A process that has only just been started has no arguments yet, and is not seen as a prefetcher.
        wait_until("the prefetcher asks for what follows", || ahead.asked().contains_key(&next));
        ahead.prefetchers.wait_until_none();
        assert_eq!(ahead.asked(), once([this, next.clone()]));

        ahead.scene.store.forget_requests();
        let rounds = 4;
        for _ in 0..rounds {
            for missing in [&*next, "00000002.history"] {
                assert_eq!(outcome_of(ahead.call(standby, missing)).status, 1);
                assert!(ahead.prefetchers.all().is_empty(), "a miss leaves none behind");
            }
        }
        let expected = BTreeMap::from([(next.clone(), rounds), ("00000002.history".to_owned(), rounds)]);
        assert_eq!(ahead.asked(), expected);
        // One listing each time proves that the archive is available.
        assert_eq!(ahead.scene.store.requests().len(), 4 * rounds);

        ahead.scene.primary.file(&format!("pg_wal/{next}"), content(&next));
        succeeds(ahead.scene.push(&next));
    }
}

#[test]
fn an_idle_standby_sends_no_more_requests_than_without_prefetching() {
    let ahead = Ahead::with(1..=3);
    let count = |size: &str| {
        ahead.scene.store.forget_requests();
        for missing in [&*name(4), "00000002.history", &name(4), "00000002.history"] {
            let mut call = ahead.call(&ahead.scene.standby, missing);
            call.env("WALKEEP_PREFETCH_SIZE", size);
            assert_eq!(outcome_of(call).status, 1);
        }
        ahead.prefetchers.wait_until_none();
        ahead.scene.store.requests().len()
    };
    // Each segment is requested, and the archive is listed.
    assert_eq!((count("256MB"), count("0MB")), (8, 8));
}

#[test]
fn a_missing_segment_is_found_once_it_is_archived() {
    let ahead = Ahead::with(1..=2);
    assert_eq!(ahead.restored(1), From::Archive);
    ahead.prefetchers.wait_until_held(1);
    for number in [3, 4] {
        let name = name(number);
        ahead.scene.primary.file(&format!("pg_wal/{name}"), content(&name));
        succeeds(ahead.scene.push(&name));
    }
    // A segment beyond those that the prefetcher knows, while it runs.
    assert_eq!(ahead.restored(3), From::Archive);
    assert_eq!(ahead.restored(4), From::Prefetcher);
    ahead.prefetchers.wait_until_none();
}

#[test]
fn failures_of_a_store_are_reported_as_without_prefetching() {
    let refused = Fault::Answer { status: 403, code: "AccessDenied", message: "No." };
    for (fault, words) in [(LATER, "503"), (refused, "403")] {
        for (standby, status) in [(false, 255), (true, 75)] {
            let ahead = Ahead::with(1..=8);
            let server = if standby { &ahead.scene.standby } else { &ahead.scene.recovery };
            let call = |number, size: &str| {
                let mut call = ahead.call(server, &name(number));
                call.args(["--timeout", "2s", "--prefetch-size", size]);
                call
            };
            let restored = |call, number| restored_as(call, server, &name(number), &content(&name(number)));
            ahead.scene.store.break_with(Matching::GetsFrom(FIFTH), fault.clone());
            assert_eq!(restored(call(1, "256MB"), 1), From::Archive);
            ahead.prefetchers.wait_until_held(3);
            for number in 2..=4 {
                assert_eq!(restored(call(number, "256MB"), number), From::Prefetcher);
            }
            for size in ["256MB", "0MB"] {
                let outcome = outcome_of(call(5, size));
                assert_eq!(outcome.status, status, "{size}: {}", outcome.stderr);
                assert!(outcome.stderr.contains(words), "{size}: {}", outcome.stderr);
            }
            ahead.scene.store.heal();
            assert_eq!(restored(call(5, "256MB"), 5), From::Archive);
            ahead.prefetchers.wait_until_held(3);
            assert_eq!(restored(call(6, "256MB"), 6), From::Prefetcher);
        }
    }
}

#[test]
fn a_failing_store_is_asked_only_for_segments_in_progress() {
    let ahead = Ahead::with(1..=30);
    ahead.scene.store.break_times(4, Matching::Gets, Fault::None);
    ahead.scene.store.break_with(Matching::Gets, LATER);
    assert_eq!(ahead.restored(1), From::Archive);
    ahead.prefetchers.wait_until_held(3);
    let requests = || ahead.scene.store.requests().len();
    wait_until("it has failed", || requests() > 4);
    thread::sleep(A_WHILE);
    // Three have succeeded, so four more may be in progress.
    assert!(requests() <= 1 + 3 + 4, "{:?}", ahead.asked());
}

#[test]
fn a_hanging_request_delays_its_call_by_seconds_at_most() {
    for fault in [Fault::Hang, Fault::HangInBody(2000), Fault::Trickle] {
        let ahead = Ahead::with(1..=3);
        ahead.scene.store.break_times(1, Matching::Gets, Fault::None);
        ahead.scene.store.break_times(1, Matching::Gets, fault.clone());
        assert_eq!(ahead.restored(1), From::Archive);
        let requests = || ahead.scene.store.requests().len();
        wait_until("the prefetcher has asked", || requests() == 2);
        let started = Instant::now();
        assert_eq!(ahead.restored(2), From::Archive, "{fault:?}");
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
        ahead.prefetchers.wait_until_held(1);
        assert_eq!(ahead.restored(3), From::Prefetcher, "and it goes on");
    }
}

#[test]
fn a_truncated_or_damaged_object_is_not_passed_on() {
    for fault in [Fault::CutBody(3000), Fault::ResetAfter(3000), Fault::FlipByte(5000)] {
        let ahead = Ahead::with(1..=2);
        ahead.scene.store.break_times(1, Matching::Gets, Fault::None);
        // As often as the prefetcher may retry.
        ahead.scene.store.break_with(Matching::Gets, fault.clone());
        assert_eq!(ahead.restored(1), From::Archive);
        wait_until("it has been asked for", || ahead.scene.store.requests().len() > 1);
        thread::sleep(A_WHILE);
        assert!(ahead.prefetchers.all().iter().all(|prefetcher| prefetcher.held() == 0), "{fault:?}");
        ahead.scene.store.heal();
        let _ = ahead.restored(2);
    }
}

#[test]
fn command_lines_contain_no_secrets() {
    let mut ahead = Ahead::with(1..=3);
    let secret = "the-secret-key-of-the-tests";
    let environment = ahead.scene.store.environment();
    assert!(environment.iter().any(|(_, value)| value == secret));
    assert_eq!(ahead.restored(1), From::Archive);
    let prefetcher = ahead.prefetchers.wait_until_held(2);
    let line = prefetcher.command_line();
    assert!(line.contains("--prefetch-after=1048576") && line.contains(&name(1)), "{line}");
    for (_, value) in environment.iter().filter(|(name, _)| name.contains("KEY")) {
        assert!(!line.contains(value), "{line}");
    }
    prefetcher.kill();

    // Secrets in a file are not printed either.
    let settings = format!("[store]\nsecret_access_key = \"{secret}\"\n");
    let file = ahead.scene.sandbox.file("secret.toml", settings);
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    ahead.scene.set("WALKEEP_CONFIG", file.to_str().unwrap());
    let mut call = ahead.call(&ahead.scene.recovery, &name(1));
    call.env_remove("AWS_SECRET_ACCESS_KEY");
    assert_eq!(ahead.restored_by(call, 1), From::Archive);
    let line = ahead.prefetchers.wait_until_held(2).command_line();
    assert!(!line.contains(secret), "{line}");
}

/// Returns the files that a command opens and the sockets that it creates, according to strace.
fn opened(sandbox: &Sandbox, command: &Command) -> (From, String) {
    let log = sandbox.join("strace.log");
    let mut strace = sandbox.command("strace");
    // Without the prefetcher that it starts: `execve` detaches strace.
    strace.args(["-f", "-b", "execve", "-e", "trace=?open,openat,socket,connect", "-o"]).arg(&log).arg("--");
    let Outcome { status, stderr } = outcome_of(wrapped(strace, command));
    assert_eq!(status, 0, "{stderr}");
    (From::logged_in(&stderr), fs::read_to_string(log).unwrap())
}

#[test]
fn a_call_served_by_the_prefetcher_reads_no_certificate_and_opens_no_connection() {
    let ahead = Ahead::with(1..=3);
    let identity = Identity::new(&ahead.scene.sandbox);
    let tls = Store::with_tls(&identity);
    for number in 1..=3 {
        let key = key(&name(number));
        tls.put(&key, ahead.scene.store.get(&key).unwrap());
    }
    let call = |number| {
        let mut call = knowing(ahead.call(&ahead.scene.recovery, &name(number)), &tls.environment());
        call.env_remove("AWS_ALLOW_HTTP").env("AWS_CA_BUNDLE", identity.ca_file());
        call
    };
    let parts = ["AF_INET", "/ssl", "/certs", "ca-certificates", ".pem", ".crt", "resolv.conf"];
    for number in 1..=3 {
        let (from, log) = opened(&ahead.scene.sandbox, &call(number));
        let wrong: Vec<_> = log.lines().filter(|line| parts.iter().any(|part| line.contains(part))).collect();
        if number == 1 {
            // Proves that the search finds these files.
            assert_eq!(from, From::Archive);
            assert!(log.contains("socket(AF_INET") && log.contains("ca.pem"), "{log}");
            ahead.prefetchers.wait_until_held(2);
        } else {
            assert_eq!((from, wrong), (From::Prefetcher, Vec::new()));
        }
        fs::remove_file(ahead.scene.recovery.join(support::restore::TARGET)).unwrap();
    }
}
