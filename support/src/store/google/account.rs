//! A service account: its key, and the tokens that are signed with it.
//!
//! As in "Self-signed JWTs" (AIP-4111) and "Addendum: Service account authorization without OAuth" of Google's "Using
//! OAuth 2.0 for Server to Server Applications": the client signs the token itself, and no server issues one. So
//! nothing is ever requested from `token_uri`.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
    sync::{Arc, LazyLock},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::{Value, json};

use crate::{output_of, sandbox::Sandbox};

/// Name of the account, as in the errors about its permissions.
pub(super) const EMAIL: &str = "walkeep@tests.iam.gserviceaccount.com";
const KEY_ID: &str = "0123456789abcdef0123456789abcdef01234567";

/// Longest time for which a token may be valid, in seconds.
const LONGEST: i64 = 3600;
/// Difference between clocks that does not matter, in seconds.
const SKEW: i64 = 300;

/// Scopes that allow writing.
const SCOPES: [&str; 3] = [
    "https://www.googleapis.com/auth/cloud-platform",
    "https://www.googleapis.com/auth/devstorage.full_control",
    "https://www.googleapis.com/auth/devstorage.read_write",
];

/// An account with a key.
#[derive(Clone)]
pub struct ServiceAccount {
    key: Arc<Key>,
}

struct Key {
    /// In PEM.
    private: String,
    public: Vec<u8>,
}

impl ServiceAccount {
    /// Returns the account that the stand-in knows. All tests of a program share its key, which takes long to make.
    pub fn known() -> Self {
        static KEY: LazyLock<Arc<Key>> = LazyLock::new(|| Arc::new(Key::generate()));
        Self { key: Arc::clone(&KEY) }
    }

    /// Returns the account of the same name with another key, whose signatures are wrong.
    pub fn forged() -> Self {
        Self { key: Arc::new(Key::generate()) }
    }

    /// Writes the key file as Google's console does, and returns its path.
    pub fn file(&self, sandbox: &Sandbox) -> PathBuf {
        let content = json!({
            "type": "service_account",
            "project_id": "tests",
            "private_key_id": KEY_ID,
            "private_key": self.key.private,
            "client_email": EMAIL,
            "client_id": "103000000000000000000",
            "auth_uri": "http://127.0.0.1:1/o/oauth2/auth",
            "token_uri": "http://127.0.0.1:1/token",
        });
        let path = sandbox.file("service-account.json", content.to_string());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Returns what is wrong with a token.
    pub(super) fn objection(&self, token: &str) -> Option<&'static str> {
        let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else {
            return Some("it has not three parts");
        };
        let signed = &token.as_bytes()[..header.len() + 1 + claims.len()];
        let Ok(signature) = BASE64_URL_SAFE_NO_PAD.decode(signature) else {
            return Some("its signature is no base64");
        };
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.key.public);
        if key.verify(signed, &signature).is_err() {
            return Some("its signature is wrong");
        }
        let (Some(header), Some(claims)) = (json_of(header), json_of(claims)) else {
            return Some("it is no JSON");
        };
        if header["alg"] != "RS256" || header["typ"] != "JWT" || header["kid"] != KEY_ID {
            return Some("its header is not that of this key");
        }
        if claims["iss"] != EMAIL || claims["sub"] != EMAIL {
            return Some("it is not this account's");
        }
        if !claims["scope"].as_str().unwrap_or_default().split(' ').any(|scope| SCOPES.contains(&scope)) {
            return Some("its scope does not allow writing");
        }
        let now = Timestamp::now().as_second();
        match (claims["iat"].as_i64(), claims["exp"].as_i64()) {
            (Some(issued), Some(expires)) if expires - issued > LONGEST => Some("it is valid for too long"),
            (Some(issued), Some(expires)) if issued <= now + SKEW && now < expires => None,
            _ => Some("it is not valid at this time"),
        }
    }
}

impl Key {
    fn generate() -> Self {
        let mut openssl = Command::new("openssl");
        openssl.args(["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
        let private = output_of(&mut openssl) + "\n";
        let der = PrivatePkcs8KeyDer::from_pem_slice(private.as_bytes()).unwrap();
        let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
        Self { private, public: pair.public_key().as_ref().to_vec() }
    }
}

fn json_of(part: &str) -> Option<Value> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}
