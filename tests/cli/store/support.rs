//! The test server itself: it answers like a store, and each fault happens as announced.

use std::{
    io::ErrorKind,
    thread,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, path::Path, signer::Signer};
use support::{
    sandbox::Sandbox,
    store::{
        Store,
        dead_end::DeadEnd,
        fault::{Fault, Matching},
        garage::Garage,
        identity::Identity,
        raw_client::{Answer, End, RawClient, object_store_client},
        tls_proxy::TlsProxy,
    },
};

const CONTENT: &[u8] = b"0123456789";

/// More than the buffers of a socket that nobody reads.
const LARGE: usize = 32 << 20;

const IF_NONE_MATCH: &str = "If-None-Match: *\r\n";

fn put(store: &Store) -> Answer {
    RawClient::new(store).answer("PUT", "a/key", "", CONTENT)
}

fn put_if_new(store: &Store) -> Answer {
    RawClient::new(store).answer("PUT", "a/key", IF_NONE_MATCH, CONTENT)
}

fn get(store: &Store) -> Answer {
    RawClient::new(store).answer("GET", "a/key", "", b"")
}

fn head(store: &Store) -> Answer {
    RawClient::new(store).answer("HEAD", "a/key", "", b"")
}

/// Creates a store that contains `a/key`.
fn filled() -> Store {
    let store = Store::new();
    store.put("a/key", CONTENT);
    store
}

/// Creates [`filled`] with `fault` for all requests.
fn broken(fault: Fault) -> Store {
    let store = filled();
    store.break_with(Matching::Any, fault);
    store
}

#[test]
fn objects_are_files() {
    let store = Store::new();
    assert_eq!(put(&store).status(), Some(200));
    assert_eq!(store.get("a/key").unwrap(), CONTENT);
    store.put("another", b"x");
    assert_eq!(store.keys(), ["a/key", "another"]);
    let answer = get(&store);
    assert_eq!((answer.status(), &*answer.body, answer.end), (Some(200), CONTENT, End::Closed));
    assert_eq!(store.get("missing"), None);
}

#[test]
fn what_is_missing_is_not_found() {
    let store = Store::new();
    store.put("directory/key", b"x");
    let client = RawClient::new(&store);
    for key in ["missing", "directory"] {
        let answer = client.answer("GET", key, "", b"");
        assert_eq!(answer.status(), Some(404), "{key}");
        assert!(answer.text().contains("<Code>NoSuchKey</Code>"), "{key}: {answer:?}");
        let answer = client.answer("HEAD", key, "", b"");
        assert_eq!((answer.status(), &*answer.body), (Some(404), &b""[..]), "{key}");
    }
}

#[tokio::test]
async fn a_missing_bucket_is_told_from_a_missing_key() {
    let store = Store::new();
    std::fs::remove_dir(store.file("")).unwrap();
    let client = object_store_client(&store.environment());
    let failure = client.put(&"key".into(), CONTENT.into()).await.unwrap_err();
    assert!(failure.to_string().contains("NoSuchBucket"), "{failure}");
    let failure = client.get(&"key".into()).await.unwrap_err();
    assert!(
        matches!(&failure, Error::NotFound { source, .. } if format!("{source:?}").contains("NoSuchBucket"))
    );
    let failure = client.head(&"key".into()).await.unwrap_err();
    assert!(matches!(failure, Error::NotFound { .. }), "{failure}");
    assert!(!store.file("").exists());
}

#[tokio::test]
async fn only_the_key_of_the_environment_opens_it() {
    let store = Store::new();
    for (variable, code) in
        [("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch"), ("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId")]
    {
        let mut environment = store.environment();
        environment.iter_mut().find(|(name, _)| *name == variable).unwrap().1 = "WRONG".to_owned();
        let failure = object_store_client(&environment).get(&"key".into()).await.unwrap_err();
        assert!(matches!(failure, Error::PermissionDenied { .. }), "{failure}");
        assert!(format!("{failure:?}").contains(code), "{failure:?}");
    }
    support::store::identity::choose_crypto();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let unsigned = client.get(format!("{}/wal/key", store.endpoint())).send().await.unwrap();
    assert_eq!(unsigned.status(), 403);
    assert!(unsigned.text().await.unwrap().contains("<Code>AccessDenied</Code>"));
}

#[tokio::test]
async fn requests_and_connections_are_noted() {
    let store = Store::new();
    let client = object_store_client(&store.environment());
    client.put_opts(&"a/key".into(), CONTENT.into(), PutMode::Create.into()).await.unwrap();
    client.get(&"a/key".into()).await.unwrap().bytes().await.unwrap();
    client.list_with_delimiter(Some(&Path::from("a"))).await.unwrap();
    let requests = store.requests();
    let [put, get, list] = &*requests else { panic!("{requests:?}") };
    assert_eq!((&*put.method, &*put.path), ("PUT", "/wal/a/key"));
    assert!(put.conditional && !get.conditional);
    assert_eq!(put.content_length, Some(10));
    assert_eq!((&*get.method, &*get.path, &get.query), ("GET", "/wal/a/key", &None));
    assert!(list.query.as_ref().unwrap().contains("list-type=2"));
    assert_eq!(store.connections(), 1);
    store.forget_requests();
    assert_eq!(store.requests(), []);
}

#[test]
fn an_object_is_made_only_once_under_the_condition() {
    let store = Store::new();
    let mut statuses = thread::scope(|scope| {
        let calls: Vec<_> = (0..8).map(|_| scope.spawn(|| put_if_new(&store).status().unwrap())).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect::<Vec<_>>()
    });
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412, 412, 412, 412, 412, 412]);
    assert!(put_if_new(&store).text().contains("<Code>PreconditionFailed</Code>"));
    assert_eq!(put(&store).status(), Some(200));
}

#[tokio::test]
async fn conditions_can_be_ignored() {
    let store = Store::new();
    store.ignore_conditions();
    // This client signs the header.
    let client = object_store_client(&store.environment());
    for content in ["first", "second"] {
        client.put_opts(&"a/key".into(), content.into(), PutMode::Create.into()).await.unwrap();
    }
    assert_eq!(store.get("a/key").unwrap(), b"second");
}

#[test]
fn conditions_can_be_refused() {
    let store = Store::new();
    store.refuse_conditions();
    let answer = put_if_new(&store);
    assert_eq!(answer.status(), Some(501));
    assert!(answer.text().contains("<Code>NotImplemented</Code>"));
    assert_eq!(store.keys(), [""; 0]);
    assert_eq!(put(&store).status(), Some(200));
}

#[test]
fn the_clock_can_be_wrong() {
    let store = filled();
    let date = |answer: &Answer| {
        jiff::fmt::rfc2822::parse(answer.header("Date").unwrap()).unwrap().timestamp().as_second()
    };
    let right = date(&get(&store));
    store.set_clock_offset(-3600);
    let wrong = date(&get(&store));
    assert!((3590..=3600).contains(&(right - wrong)), "{right} {wrong}");
}

#[test]
fn faults_pick_their_requests() {
    let store = filled();
    let answer = |status| Fault::Answer { status, code: "SlowDown", message: "Please reduce" };
    store.break_times(1, Matching::Puts, answer(500));
    store.break_times(1, Matching::Puts, answer(503));
    store.break_with(Matching::Heads, answer(429));
    store.break_with(Matching::Method("DELETE"), answer(418));
    let statuses = [put(&store), put(&store), put(&store), head(&store), head(&store), get(&store)];
    assert_eq!(statuses.map(|answer| answer.status().unwrap()), [500, 503, 200, 429, 429, 200]);
    let delete = || RawClient::new(&store).answer("DELETE", "a/key", "", b"").status();
    assert_eq!(delete(), Some(418));
    store.break_with(Matching::Gets, answer(502));
    assert_eq!(get(&store).status(), Some(502));
    // A listing is no GET of an object.
    assert_eq!(RawClient::new(&store).answer("GET", "", "", b"").status(), Some(200));
    store.heal();
    assert_eq!(get(&store).status(), Some(200));
    assert_eq!(delete(), Some(204));
}

#[test]
fn answer_is_an_error_document() {
    let store = Store::new();
    store.break_with(Matching::Any, Fault::Answer { status: 503, code: "SlowDown", message: "Less, please" });
    let answer = put(&store);
    assert_eq!((answer.status(), answer.header("Content-Type")), (Some(503), Some("application/xml")));
    let document = "<Error><Code>SlowDown</Code><Message>Less, please</Message></Error>";
    assert!(answer.text().ends_with(document), "{answer:?}");
    assert_eq!(store.keys(), [""; 0]);
    let answer = head(&store);
    assert_eq!((answer.status(), &*answer.body), (Some(503), &b""[..]));
}

#[test]
fn raw_is_anything() {
    let headers = vec![("Content-Type", "text/html".to_owned()), ("Retry-After", "7".to_owned())];
    let store = broken(Fault::Raw { status: 502, headers, body: "<html>" });
    let answer = get(&store);
    assert_eq!((answer.status(), answer.header("Retry-After")), (Some(502), Some("7")));
    assert_eq!((answer.header("Content-Type"), answer.text()), (Some("text/html"), "<html>"));
}

#[test]
fn reset_before_reading_performs_nothing() {
    let store = Store::new();
    store.break_with(Matching::Any, Fault::ResetBeforeReading);
    for answer in [put(&store), get(&store)] {
        assert_eq!((answer.status(), answer.end), (None, End::Reset));
    }
    assert_eq!(store.keys(), [""; 0]);
    assert_eq!(store.requests().len(), 2);
}

#[test]
fn reset_after_some_bytes_of_the_answer() {
    let store = broken(Fault::ResetAfter(3));
    let answer = get(&store);
    assert_eq!(
        (answer.header("Content-Length"), answer.text(), &answer.end),
        (Some("10"), "012", &End::Reset)
    );
    // A response to PUT has no body, and that to HEAD is sent without one.
    store.put("a/key", b"old");
    for answer in [put(&store), head(&store)] {
        assert_eq!((answer.status(), answer.end), (Some(200), End::Reset));
    }
    assert_eq!(store.get("a/key").unwrap(), CONTENT);
}

#[test]
fn an_answer_can_be_lost() {
    let store = Store::new();
    store.break_with(Matching::Any, Fault::AnswerLost);
    let answer = put(&store);
    assert_eq!((answer.status(), answer.end), (None, End::Closed));
    assert_eq!(store.get("a/key").unwrap(), CONTENT);
}

#[test]
fn a_body_can_be_cut() {
    let answer = get(&broken(Fault::CutBody(4)));
    assert_eq!(
        (answer.header("Content-Length"), answer.text(), &answer.end),
        (Some("10"), "0123", &End::Closed)
    );
}

#[test]
fn a_request_can_hang_without_effect() {
    let store = Store::new();
    store.break_with(Matching::Any, Fault::Hang);
    let answer = RawClient::new(&store).answer_until_silence("PUT", "a/key", CONTENT);
    assert_eq!((answer.status(), answer.end), (None, End::Silence));
    assert_eq!(store.keys(), [""; 0]);
}

#[test]
fn a_request_can_hang_after_its_effect() {
    let store = Store::new();
    store.break_with(Matching::Any, Fault::HangAfterEffect);
    let answer = RawClient::new(&store).answer_until_silence("PUT", "a/key", CONTENT);
    assert_eq!((answer.status(), answer.end), (None, End::Silence));
    assert_eq!(store.get("a/key").unwrap(), CONTENT);
}

#[test]
fn an_answer_can_hang() {
    let store = broken(Fault::HangInBody(5));
    let answer = RawClient::new(&store).answer_until_silence("GET", "a/key", b"");
    assert_eq!((answer.text(), &answer.end), ("01234", &End::Silence));
}

#[test]
fn an_answer_can_trickle() {
    let store = broken(Fault::Trickle);
    store.put("a/key", b"0123");
    let start = Instant::now();
    assert_eq!(get(&store).text(), "0123");
    assert!(start.elapsed() >= Duration::from_millis(800), "{:?}", start.elapsed());
}

#[test]
fn an_upload_can_come_to_a_halt() {
    let store = Store::new();
    store.break_with(Matching::Puts, Fault::StopReading(1000));
    let call = RawClient::new(&store).call("PUT", "a/key", "", &vec![0; LARGE]);
    assert_eq!(call.stopped_by, Some(ErrorKind::WouldBlock));
    assert!((1000..LARGE).contains(&call.written), "{}", call.written);
    let answer = call.answer(Duration::from_millis(500));
    assert_eq!((answer.status(), answer.end), (None, End::Silence));
    assert_eq!(store.keys(), [""; 0]);
    store.heal();
    assert_eq!(put(&store).status(), Some(200));
}

#[test]
fn an_upload_can_be_reset() {
    let store = Store::new();
    store.break_with(Matching::Puts, Fault::ResetUpload(1000));
    let call = RawClient::new(&store).call("PUT", "a/key", "", &vec![0; LARGE]);
    assert_eq!(call.stopped_by, Some(ErrorKind::ConnectionReset));
    assert!((1000..LARGE).contains(&call.written), "{}", call.written);
    assert_eq!(store.keys(), [""; 0]);
}

#[test]
fn a_byte_can_flip() {
    assert_eq!(get(&broken(Fault::FlipByte(2))).body, b"01\xcd3456789");
}

/// Buffers neither hide nor limit the effect of a fault on a large response.
#[test]
fn faults_reach_far_into_a_large_answer() {
    let content: Vec<_> = (0..LARGE).map(|index| u8::try_from(index % 251).unwrap()).collect();
    let far = LARGE - 100_000;
    let store = broken(Fault::CutBody(far as u64));
    store.put("a/key", &content);
    assert!(get(&store).body == content[..far]);
    store.heal();
    store.break_with(Matching::Any, Fault::FlipByte(far as u64));
    let answer = get(&store).body;
    assert!(answer[..far] == content[..far] && answer[far + 1..] == content[far + 1..]);
    assert_eq!(answer[far], !content[far]);
    store.heal();
    assert!(get(&store).body == content);
}

#[tokio::test]
async fn a_connection_survives_faults_that_answer() {
    let store = broken(Fault::FlipByte(0));
    let client = object_store_client(&store.environment());
    let content = async || client.get(&"a/key".into()).await.unwrap().bytes().await.unwrap();
    assert_eq!(content().await[0], !b'0');
    store.heal();
    assert_eq!(content().await, CONTENT);
    assert_eq!(store.connections(), 1);
}

#[test]
fn the_end_waits_for_nothing() {
    for fault in [Fault::Hang, Fault::HangAfterEffect, Fault::HangInBody(1), Fault::StopReading(1)] {
        let store = broken(fault);
        let directory = store.file("").parent().unwrap().to_owned();
        let call = RawClient::new(&store).call("PUT", "a/key", "", &vec![0; 1 << 20]);
        support::wait_until("the request has arrived", || !store.requests().is_empty());
        let start = Instant::now();
        drop(store);
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        assert!(!directory.exists());
        assert_ne!(call.answer(support::PATIENCE).end, End::Silence);
    }
}

/// Returns the reason why no response comes.
async fn failure(client: &reqwest::Client, url: String) -> String {
    format!("{:?}", client.get(url).send().await)
}

#[tokio::test]
async fn tls_is_what_the_certificate_makes_it() {
    let sandbox = Sandbox::new();
    let identity = Identity::new(&sandbox);
    let store = Store::with_tls(&identity);
    assert!(store.environment().iter().all(|(name, _)| *name != "AWS_ALLOW_HTTP"));
    for endpoint in [store.endpoint(), format!("https://{}", store.address())] {
        // Unsigned.
        assert_eq!(identity.trusting_client().get(endpoint).send().await.unwrap().status(), 403);
    }
    let other_sandbox = Sandbox::new();
    let other = Identity::new(&other_sandbox);
    let stranger = failure(&other.trusting_client(), store.endpoint()).await;
    assert!(stranger.contains("UnknownIssuer") || stranger.contains("BadSignature"), "{stranger}");
    let expired = Identity::expired(&sandbox);
    let late = failure(&expired.trusting_client(), Store::with_tls(&expired).endpoint()).await;
    assert!(late.contains("Expired"), "{late}");
    let authority = Identity::self_signed_ca(&sandbox);
    let misused = failure(&authority.trusting_client(), Store::with_tls(&authority).endpoint()).await;
    assert!(misused.contains("CaUsedAsEndEntity"), "{misused}");
}

#[tokio::test]
async fn faults_happen_under_tls() {
    let sandbox = Sandbox::new();
    let identity = Identity::new(&sandbox);
    let store = Store::with_tls(&identity);
    store.put("a/key", CONTENT);
    let signer = object_store_client(&store.environment());
    let url = signer.signed_url("GET".parse().unwrap(), &"a/key".into(), support::PATIENCE).await.unwrap();
    let get = async || {
        let mut answer = identity.trusting_client().get(url.clone()).send().await.unwrap();
        let start = answer.chunk().await.unwrap().unwrap();
        (start, answer.chunk().await)
    };
    assert_eq!(get().await.0, CONTENT);
    store.break_with(Matching::Any, Fault::CutBody(3));
    let (start, rest) = get().await;
    assert_eq!((&*start, rest.is_err()), (&CONTENT[..3], true));
    store.heal();
    store.break_with(Matching::Any, Fault::ResetAfter(3));
    let (start, rest) = get().await;
    assert_eq!(&*start, &CONTENT[..3]);
    assert!(format!("{rest:?}").contains("ConnectionReset"), "{rest:?}");
}

#[tokio::test]
async fn a_proxy_adds_tls_and_takes_time() {
    const ROUND_TRIP: Duration = Duration::from_millis(100);
    let sandbox = Sandbox::new();
    let identity = Identity::new(&sandbox);
    let store = Store::new();
    let proxy = TlsProxy::start(store.address(), &identity);
    let client = identity.trusting_client();
    assert_eq!(client.get(proxy.endpoint()).send().await.unwrap().status(), 403);
    let slow = TlsProxy::start_slow(store.address(), &identity, ROUND_TRIP);
    // For the handshake and the request, then for a request alone.
    for round_trips in [2, 1] {
        let start = Instant::now();
        assert_eq!(client.get(slow.endpoint()).send().await.unwrap().status(), 403);
        assert!(start.elapsed() >= ROUND_TRIP * round_trips, "{:?}", start.elapsed());
    }
    // The client closes its connections before the servers do.
    drop((proxy, slow));
    assert!(failure(&client, store.endpoint().replace("http:", "https:")).await.contains("Connect"));
}

#[tokio::test]
async fn dead_ends_give_no_answer() {
    let sandbox = Sandbox::new();
    let identity = Identity::new(&sandbox);
    let client = identity.trusting_client();
    let refused = DeadEnd::refused();
    for endpoint in [refused.http(), refused.https()] {
        assert!(failure(&client, endpoint).await.contains("ConnectionRefused"));
    }
    let silent = DeadEnd::silent();
    for endpoint in [silent.http(), silent.https()] {
        let answer = client.get(endpoint).send();
        assert!(tokio::time::timeout(Duration::from_millis(300), answer).await.is_err());
    }
    let cut = failure(&client, DeadEnd::cuts_tls().https()).await;
    assert!(cut.contains("UnexpectedEof"), "{cut}");
}

#[tokio::test]
async fn garage_is_a_store() {
    let sandbox = Sandbox::new();
    let garage = Garage::start(&sandbox);
    let client = object_store_client(&garage.environment());
    let key = Path::from("a/key");
    for content in [&b"first"[..], CONTENT] {
        // It ignores the condition.
        client.put_opts(&key, content.into(), PutMode::Create.into()).await.unwrap();
    }
    assert_eq!(client.get(&key).await.unwrap().bytes().await.unwrap(), CONTENT);
    let missing = client.get(&"missing".into()).await.unwrap_err();
    assert!(matches!(missing, Error::NotFound { .. }), "{missing}");
    assert_eq!(client.list_with_delimiter(None).await.unwrap().common_prefixes, ["a".into()]);
    // With one request, unless that is turned off.
    let deleted: Vec<_> =
        client.delete_stream(stream::iter([key.clone(), "b".into()]).map(Ok).boxed()).collect().await;
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    assert!(client.get(&key).await.is_err());
}
