//! Certificates for servers on this machine.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use crate::sandbox::Sandbox;

/// A server certificate for `localhost` and 127.0.0.1, its key, and the certificate that clients trust.
pub struct Identity {
    acceptor: TlsAcceptor,
    ca_file: PathBuf,
}

impl Identity {
    /// Creates a certificate signed by its own authority.
    pub fn new(sandbox: &Sandbox) -> Self {
        Self::signed(sandbox, "ca.pem", &server_certificate())
    }

    /// Does the same as [`Identity::new`] with a certificate that expired in 2000.
    pub fn expired(sandbox: &Sandbox) -> Self {
        let mut certificate = server_certificate();
        certificate.not_after = date_time_ymd(2000, 1, 1);
        Self::signed(sandbox, "ca-of-expired.pem", &certificate)
    }

    /// Creates an authority's self-signed certificate, used as the server's own.
    pub fn self_signed_ca(sandbox: &Sandbox) -> Self {
        let mut certificate = server_certificate();
        certificate.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        Self::write(sandbox, "self-signed-ca.pem", &certificate.pem(), &certificate, &key)
    }

    fn signed(sandbox: &Sandbox, ca_file: &str, certificate: &CertificateParams) -> Self {
        let mut authority = named("walkeep's tests");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = certificate.signed_by(&key, &authority).unwrap();
        Self::write(sandbox, ca_file, &authority.pem(), &certificate, &key)
    }

    fn write(sandbox: &Sandbox, ca_file: &str, ca: &str, certificate: &Certificate, key: &KeyPair) -> Self {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        // Not the process's default provider, which the code under test may install.
        let configuration = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Self { acceptor: TlsAcceptor::from(Arc::new(configuration)), ca_file: sandbox.file(ca_file, ca) }
    }

    /// Returns the path of the trusted certificate, in PEM.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// Returns a client that trusts only this certificate.
    pub fn trusting_client(&self) -> reqwest::Client {
        choose_crypto();
        let ca = reqwest::Certificate::from_pem(&fs::read(&self.ca_file).unwrap()).unwrap();
        reqwest::Client::builder().no_proxy().tls_certs_only([ca]).build().unwrap()
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }
}

/// Installs the crypto provider that a client of this process needs.
pub fn choose_crypto() {
    // Fails if another test has done it.
    let _ = ring::default_provider().install_default();
}

fn server_certificate() -> CertificateParams {
    let mut certificate = named("localhost");
    let names = ["localhost", "127.0.0.1"].map(ToOwned::to_owned);
    certificate.subject_alt_names = CertificateParams::new(names).unwrap().subject_alt_names;
    certificate
}

fn named(common_name: &str) -> CertificateParams {
    let mut certificate = CertificateParams::default();
    certificate.distinguished_name.push(DnType::CommonName, common_name);
    certificate
}
