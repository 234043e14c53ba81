//! Settings of a store that no request can be made of: refused before one is, by name.

use support::{
    store::Store,
    store_cluster::{StoreUsers, changed, knowing},
};

use super::configuration::is_refused;

#[test]
fn a_setting_that_no_request_can_be_made_of_is_refused_by_name() {
    let (users, store) = (StoreUsers::new(), Store::new());
    let environment = store.environment();
    let proposal = "AWS_ENDPOINT_URL: \"minio.example:9000\" is not a URL of a server; write https://minio.example:9000;";
    for (name, value, words) in [
        ("AWS_ENDPOINT_URL", "minio.example:9000", proposal),
        ("AWS_ENDPOINT_URL", "https://st\u{f6}re", "write https://HOST or https://HOST:PORT;"),
        ("AWS_ENDPOINT_URL", "https://127.0.0.1:1\n", "AWS_ENDPOINT_URL: it holds a line feed"),
        (
            "AWS_METADATA_ENDPOINT",
            "127.0.0.1:1",
            "AWS_METADATA_ENDPOINT: \"127.0.0.1:1\" is not a URL of a server",
        ),
        ("AWS_SECRET_ACCESS_KEY", "secret\n", "AWS_SECRET_ACCESS_KEY: it holds a line feed"),
        ("AWS_SESSION_TOKEN", "token\r\n", "AWS_SESSION_TOKEN: it holds a line feed"),
        (
            "AWS_REGION",
            "eu west",
            "AWS_REGION: it holds a character that the address of a server must not have",
        ),
    ] {
        let environment = changed(&environment, name, value);
        is_refused(&users, &|call| knowing(call, &environment), &[words]);
    }
    assert_eq!(store.connections(), 0);
}
