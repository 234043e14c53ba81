//! Failures of connections, which name the server that was to be reached.

use std::fmt;

/// Server of a request.
#[derive(Debug, Clone)]
pub(super) struct HostAndPort(String);

impl HostAndPort {
    pub(super) fn of(uri: &http::Uri) -> Self {
        let host = uri.host().unwrap_or_default();
        let standard = if uri.scheme_str() == Some("http") { 80 } else { 443 };
        Self(format!("{host}:{}", uri.port_u16().unwrap_or(standard)))
    }

    /// Returns the failure of a request to this server, without the URL, which may hold a token.
    pub(super) fn failed(&self, error: reqwest::Error) -> Unreachable {
        Unreachable { server: self.0.clone(), source: error.without_url() }
    }
}

impl fmt::Display for HostAndPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request that got no answer.
#[derive(Debug)]
pub(super) struct Unreachable {
    server: String,
    source: reqwest::Error,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.source.is_connect() {
            write!(f, "cannot reach {}", self.server)
        } else if self.source.is_timeout() {
            write!(f, "{} gave no answer", self.server)
        } else {
            write!(f, "the connection to {} broke", self.server)
        }
    }
}

impl std::error::Error for Unreachable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_with_its_port() {
        for (uri, server) in [
            ("https://store.example/wal/x?y", "store.example:443"),
            ("http://store.example/", "store.example:80"),
            ("http://me:secret@store.example:9000/", "store.example:9000"),
            ("http://[::1]:9000/", "[::1]:9000"),
        ] {
            assert_eq!(HostAndPort::of(&uri.parse().unwrap()).0, server);
        }
    }
}
