//! Prefetching from an object store: no more requests and connections than it is worth, and a store that fails or hangs
//! is told of by the call itself, as if nobody had prefetched.
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

/// How many requests are at work at a time unless something else is configured.
const CONNECTIONS: usize = 12;

/// Long enough for what must not happen to happen.
const A_WHILE: Duration = Duration::from_millis(500);

/// A store, a server that recovers from it, and the prefetchers that its calls leave behind.
struct Ahead {
    // Ends before the directory goes: fields are dropped in this order.
    prefetchers: Prefetchers,
    scene: StoreScene,
}

impl Ahead {
    /// The store holds these segments; no requests have been noted.
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

    /// How often each file was asked for, by the end of its name; nothing else was, but listings.
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
    // Beyond the end were as many as were at work when the first of them turned out to be missing.
    assert!((31..=30 + CONNECTIONS).contains(&asked.len()), "{asked:?}");
    assert_eq!(left_in_spools(&ahead.scene.sandbox.join("spool")), [""; 0]);
}

#[test]
fn connections_are_used_again() {
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
    // One for each call that asked itself, three for the prefetcher, and one more for each that was about to be free.
    assert!(connections <= from_archive + 8, "{connections}, {from_archive} from the archive");
    assert!(from_archive < 10, "{from_archive}");
    assert!(ahead.asked().values().all(|times| *times <= 2), "{:?}", ahead.asked());
}

#[test]
fn the_first_request_is_alone_and_three_more_join_for_each_that_succeeds() {
    for succeeding in [0, 1, 3, 20] {
        let ahead = Ahead::with(1..=60);
        // The call's own, and those of the prefetcher that succeed; the others hang.
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
fn the_number_of_requests_at_a_time_is_configured() {
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
fn a_standby_that_has_caught_up_costs_one_request_more_for_each_segment_and_none_while_it_is_idle() {
    let ahead = Ahead::with(1..=1);
    let standby = &ahead.scene.standby;
    for number in 1..=3 {
        let (this, next) = (name(number), name(number + 1));
        ahead.scene.store.forget_requests();
        let call = ahead.call(standby, &this);
        assert_eq!(restored_as(call, standby, &this, &content(&this)), From::Archive);
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
        // That the archive is there is proven each time, by one listing.
        assert_eq!(ahead.scene.store.requests().len(), 4 * rounds);

        ahead.scene.primary.file(&format!("pg_wal/{next}"), content(&next));
        succeeds(ahead.scene.push(&next));
    }
}

#[test]
fn an_idle_standby_asks_for_no_more_than_it_would_without_prefetching() {
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
    // Each is asked for, and its archive is listed.
    assert_eq!((count("256MB"), count("0MB")), (8, 8));
}

#[test]
fn what_was_missing_is_found_when_it_is_there() {
    let ahead = Ahead::with(1..=2);
    assert_eq!(ahead.restored(1), From::Archive);
    ahead.prefetchers.wait_until_held(1);
    for number in [3, 4] {
        let name = name(number);
        ahead.scene.primary.file(&format!("pg_wal/{name}"), content(&name));
        succeeds(ahead.scene.push(&name));
    }
    // Beyond what the prefetcher knows; it lives.
    assert_eq!(ahead.restored(3), From::Archive);
    assert_eq!(ahead.restored(4), From::Prefetcher);
    ahead.prefetchers.wait_until_none();
}

#[test]
fn a_store_that_fails_is_told_of_as_if_nobody_had_prefetched() {
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
fn a_store_that_fails_is_not_asked_for_more_than_what_is_on_its_way() {
    let ahead = Ahead::with(1..=30);
    ahead.scene.store.break_times(4, Matching::Gets, Fault::None);
    ahead.scene.store.break_with(Matching::Gets, LATER);
    assert_eq!(ahead.restored(1), From::Archive);
    ahead.prefetchers.wait_until_held(3);
    let requests = || ahead.scene.store.requests().len();
    wait_until("it has failed", || requests() > 4);
    thread::sleep(A_WHILE);
    // Three have succeeded, so that four more could be at work.
    assert!(requests() <= 1 + 3 + 4, "{:?}", ahead.asked());
}

#[test]
fn a_request_that_hangs_holds_its_call_for_some_seconds_at_most() {
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
fn an_object_that_is_cut_short_or_damaged_on_its_way_is_not_handed_over() {
    for fault in [Fault::CutBody(3000), Fault::ResetAfter(3000), Fault::FlipByte(5000)] {
        let ahead = Ahead::with(1..=2);
        ahead.scene.store.break_times(1, Matching::Gets, Fault::None);
        // As often as the prefetcher may try again.
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
fn secrets_stand_in_no_command_line() {
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

    // Nor do those of a file.
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

/// The files that a command opens and the sockets that it makes, as strace tells them.
fn opened(sandbox: &Sandbox, command: &Command) -> (From, String) {
    let log = sandbox.join("strace.log");
    let mut strace = sandbox.command("strace");
    // Not what it leaves behind: of a child that begins anew, nothing is told.
    strace.args(["-f", "-b", "execve", "-e", "trace=?open,openat,socket,connect", "-o"]).arg(&log).arg("--");
    let Outcome { status, stderr } = outcome_of(wrapped(strace, command));
    assert_eq!(status, 0, "{stderr}");
    (From::told_in(&stderr), fs::read_to_string(log).unwrap())
}

#[test]
fn a_call_that_is_served_by_the_prefetcher_reads_no_certificate_and_connects_to_nobody() {
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
            // What is looked for is there to be found.
            assert_eq!(from, From::Archive);
            assert!(log.contains("socket(AF_INET") && log.contains("ca.pem"), "{log}");
            ahead.prefetchers.wait_until_held(2);
        } else {
            assert_eq!((from, wrong), (From::Prefetcher, Vec::new()));
        }
        fs::remove_file(ahead.scene.recovery.join(support::restore::TARGET)).unwrap();
    }
}
