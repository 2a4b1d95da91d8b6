//! What Git's settings and the environment say about a server: proxies and certificates.

use std::ffi::OsString;
#[cfg(feature = "tls")]
use std::path::PathBuf;

use ureq::config::ConfigBuilder;
use ureq::typestate::AgentScope;

use super::lines::Failure;
use crate::git;

/// What applies to one address.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `http.proxy`; empty for none. Not set: the environment decides.
    proxy: Option<String>,
    /// `http.sslCAInfo` or `GIT_SSL_CAINFO`: trusted certificates in place of the system's.
    ca_file: Option<OsString>,
    /// `http.sslVerify` is false, or `GIT_SSL_NO_VERIFY` is set.
    is_unverified: bool,
}

impl Settings {
    /// Asks Git what applies to `address`.
    ///
    /// # Errors
    /// A [`Failure`] if Git does not answer.
    pub fn of(address: &str) -> Result<Self, Failure> {
        let found = git::settings(&["--get-urlmatch", "http", address]);
        let found = found.map_err(|error| Failure::new(500, error.to_string()))?;
        let mut settings = Self::default();
        for (key, value) in found {
            match key.to_ascii_lowercase().as_str() {
                "http.proxy" => settings.proxy = Some(value),
                "http.sslcainfo" if !value.is_empty() => settings.ca_file = Some(value.into()),
                "http.sslverify" => settings.is_unverified = is_false(&value),
                _ => {}
            }
        }
        if let Some(file) = std::env::var_os("GIT_SSL_CAINFO").filter(|file| !file.is_empty()) {
            settings.ca_file = Some(file);
        }
        settings.is_unverified |= std::env::var_os("GIT_SSL_NO_VERIFY").is_some();
        Ok(settings)
    }

    pub(super) fn apply(
        &self,
        config: ConfigBuilder<AgentScope>,
        address: &str,
    ) -> Result<ConfigBuilder<AgentScope>, Failure> {
        let config = match self.proxy.as_deref() {
            None => config,
            Some("") => config.proxy(None),
            Some(proxy) => {
                let bad = |error| {
                    Failure::new(
                        500,
                        format!("http.proxy is {proxy:?}, which is of no use here: {error}"),
                    )
                };
                config.proxy(Some(ureq::Proxy::new(proxy).map_err(bad)?))
            }
        };
        if !address.starts_with("https://") {
            return Ok(config);
        }
        self.secure(config)
    }

    #[cfg(not(feature = "tls"))]
    fn secure(&self, _: ConfigBuilder<AgentScope>) -> Result<ConfigBuilder<AgentScope>, Failure> {
        Err(Failure::new(
            501,
            "this git-auxin was built without TLS and reaches only http:// addresses; install one that has it",
        ))
    }

    #[cfg(feature = "tls")]
    fn secure(&self, config: ConfigBuilder<AgentScope>) -> Result<ConfigBuilder<AgentScope>, Failure> {
        use std::sync::Arc;

        use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

        let roots = match &self.ca_file {
            None => RootCerts::PlatformVerifier,
            Some(file) => {
                let path = PathBuf::from(file);
                let pem = std::fs::read(&path).map_err(|error| Failure::file(&path, &error))?;
                let certificates: Vec<_> = parse_pem(&pem)
                    .filter_map(|item| match item {
                        Ok(PemItem::Certificate(certificate)) => Some(certificate),
                        _ => None,
                    })
                    .collect();
                if certificates.is_empty() {
                    return Err(Failure::new(
                        500,
                        format!("{} has no certificate; see http.sslCAInfo", path.display()),
                    ));
                }
                RootCerts::new_with_certs(&certificates)
            }
        };
        let tls = TlsConfig::builder()
            .root_certs(roots)
            .disable_verification(self.is_unverified)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        Ok(config.tls_config(tls.build()))
    }
}

/// As Git reads truth.
fn is_false(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "false" | "no" | "off" | "0" | "")
}
