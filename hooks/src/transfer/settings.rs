//! What Git's settings and the environment say about a server: proxies, certificates and headers.

use std::ffi::OsString;
#[cfg(feature = "tls")]
use std::path::Path;

use ureq::config::ConfigBuilder;
use ureq::typestate::AgentScope;

use super::lines::Failure;
use crate::git;

/// Most files of `http.sslCAPath` that are read.
#[cfg(feature = "tls")]
const MAX_CA_FILES: usize = 1000;
/// Largest file with certificates or a key that is read, in bytes.
#[cfg(feature = "tls")]
const MAX_PEM_BYTES: u64 = 8 << 20;

/// What applies to one address.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `http.proxy`; empty for none. Not set: the environment decides.
    proxy: Option<String>,
    /// `http.sslCAInfo` or `GIT_SSL_CAINFO`: trusted certificates in place of the system's.
    ca_file: Option<OsString>,
    /// `http.sslCAPath` or `GIT_SSL_CAPATH`: a folder with more of them.
    ca_folder: Option<OsString>,
    /// `http.sslCert` or `GIT_SSL_CERT`: a certificate that this side shows.
    cert_file: Option<OsString>,
    /// `http.sslKey` or `GIT_SSL_KEY`: its key; not set: it is in the same file.
    key_file: Option<OsString>,
    /// `http.sslVerify` is false, or `GIT_SSL_NO_VERIFY` is set.
    is_unverified: bool,
    /// `http.extraHeader`: what goes along with each request.
    headers: Vec<(String, String)>,
}

impl Settings {
    /// Asks Git what applies to `address`.
    ///
    /// # Errors
    /// A [`Failure`] if Git does not answer.
    pub fn of(address: &str) -> Result<Self, Failure> {
        let failed = |error: git::GitError| Failure::new(500, error.to_string());
        let found = git::settings(&["--get-urlmatch", "http", address]).map_err(failed)?;
        let mut settings = Self::default();
        for (key, value) in found {
            let file = || Some(OsString::from(at_home(&value))).filter(|file| !file.is_empty());
            match key.to_ascii_lowercase().as_str() {
                "http.proxy" => settings.proxy = Some(value),
                "http.sslcainfo" => settings.ca_file = file(),
                "http.sslcapath" => settings.ca_folder = file(),
                "http.sslcert" => settings.cert_file = file(),
                "http.sslkey" => settings.key_file = file(),
                "http.sslverify" => settings.is_unverified = is_false(&value),
                _ => {}
            }
        }
        let of_environment = |name: &str| std::env::var_os(name).filter(|file| !file.is_empty());
        for (name, file) in [
            ("GIT_SSL_CAINFO", &mut settings.ca_file),
            ("GIT_SSL_CAPATH", &mut settings.ca_folder),
            ("GIT_SSL_CERT", &mut settings.cert_file),
            ("GIT_SSL_KEY", &mut settings.key_file),
        ] {
            if let Some(path) = of_environment(name) {
                *file = Some(path);
            }
        }
        settings.is_unverified |= std::env::var_os("GIT_SSL_NO_VERIFY").is_some();
        // Of many that apply Git tells only the last one, but all of them are meant.
        let all = git::settings(&["--get-regexp", r"^http\.(.*\.)?extraheader$"]).map_err(failed)?;
        settings.headers = headers(&all, address);
        Ok(settings)
    }

    /// What goes along with each request, in order.
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// Adds proxy and certificates to what a client of `address` is made of.
    ///
    /// # Errors
    /// A [`Failure`] if they are of no use.
    pub fn apply(
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

        use ureq::tls::{ClientCert, RootCerts, TlsConfig};

        let mut trusted = Vec::new();
        if let Some(file) = &self.ca_file {
            trusted.extend(pem(Path::new(file))?.0);
            if trusted.is_empty() {
                return Err(unusable(file, "has no certificate; see http.sslCAInfo"));
            }
        }
        if let Some(folder) = &self.ca_folder {
            let path = Path::new(folder);
            let entries = std::fs::read_dir(path).map_err(|error| Failure::file(path, &error))?;
            for entry in entries
                .flatten()
                .filter(|entry| entry.path().is_file())
                .take(MAX_CA_FILES)
            {
                trusted.extend(pem(&entry.path())?.0);
            }
            if trusted.is_empty() {
                return Err(unusable(folder, "has no certificate; see http.sslCAPath"));
            }
        }
        let roots = match trusted.as_slice() {
            [] => RootCerts::PlatformVerifier,
            trusted => RootCerts::new_with_certs(trusted),
        };
        let shown = match &self.cert_file {
            None => None,
            Some(file) => {
                let (chain, key) = pem(Path::new(file))?;
                let key_file = self.key_file.as_ref().unwrap_or(file);
                let key = match &self.key_file {
                    None => key,
                    Some(file) => pem(Path::new(file))?.1,
                };
                let key = key.ok_or_else(|| {
                    unusable(
                        key_file,
                        "has no key that can be read without a password; see http.sslKey",
                    )
                })?;
                Some(ClientCert::new_with_certs(&chain, key))
            }
        };
        let tls = TlsConfig::builder()
            .root_certs(roots)
            .client_cert(shown)
            .disable_verification(self.is_unverified)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        Ok(config.tls_config(tls.build()))
    }
}

/// Certificates and the first key of a file.
#[cfg(feature = "tls")]
fn pem(
    path: &Path,
) -> Result<
    (
        Vec<ureq::tls::Certificate<'static>>,
        Option<ureq::tls::PrivateKey<'static>>,
    ),
    Failure,
> {
    use std::io::Read as _;

    use ureq::tls::{PemItem, parse_pem};

    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_PEM_BYTES).read_to_end(&mut bytes));
    read.map_err(|error| Failure::file(path, &error))?;
    let (mut certificates, mut key) = (Vec::new(), None);
    for item in parse_pem(&bytes).flatten() {
        match item {
            PemItem::Certificate(certificate) => certificates.push(certificate),
            PemItem::PrivateKey(found) => key = key.or(Some(found)),
            _ => {}
        }
    }
    Ok((certificates, key))
}

#[cfg(feature = "tls")]
fn unusable(file: &OsString, why: &str) -> Failure {
    Failure::new(500, format!("{} {why}", Path::new(file).display()))
}

/// Why a server cannot be reached, in words for what a library says in a code.
pub fn unreachable(host: &str, error: &ureq::Error) -> String {
    let said = match error {
        ureq::Error::Timeout(_) => "nothing moved for too long".to_owned(),
        ureq::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    };
    let hint = if said.contains("CaUsedAsEndEntity") {
        " (its certificate is one of an authority; it needs one with CA:FALSE that is signed by it)"
    } else if said.contains("UnknownIssuer") {
        " (nobody known here has signed its certificate; name who has with http.sslCAInfo)"
    } else {
        ""
    };
    format!("{host} cannot be reached: {said}{hint}")
}

/// The values of `http.extraHeader` and `http.ADDRESS.extraHeader` that apply to an address, as Git collects them:
/// an empty one forgets those before it.
fn headers(settings: &[(String, String)], address: &str) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (key, value) in settings {
        let of = key.get("http.".len()..key.len().saturating_sub("extraheader".len()));
        let is_meant = match of.map(|of| of.strip_suffix('.').unwrap_or(of)) {
            None | Some("") => true,
            Some(of) => applies(of, address),
        };
        if !is_meant {
            continue;
        }
        if value.is_empty() {
            headers.clear();
        } else if let Some((name, value)) = value.split_once(':') {
            headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    headers
}

/// Whether `http.OF.…` is about `address` (gitconfig, "http.<url>.*"): same scheme, host and port, and a path within.
fn applies(of: &str, address: &str) -> bool {
    let (Some(of), Some(address)) = (Parts::of(of), Parts::of(address)) else {
        return false;
    };
    let hosts_match = || {
        let (wanted, found): (Vec<_>, Vec<_>) = (of.host.split('.').collect(), address.host.split('.').collect());
        let pairs = wanted.iter().zip(&found);
        wanted.len() == found.len() && { pairs }.all(|(wanted, found)| *wanted == "*" || wanted == found)
    };
    let is_within = address
        .path
        .strip_prefix(of.path.trim_end_matches('/'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let is_user = of.user.is_none() || of.user == address.user;
    of.scheme == address.scheme && of.port == address.port && hosts_match() && is_within && is_user
}

struct Parts {
    scheme: String,
    user: Option<String>,
    host: String,
    port: String,
    path: String,
}

impl Parts {
    fn of(address: &str) -> Option<Self> {
        let (scheme, rest) = address.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (user.split(':').next().map(str::to_owned), host),
            None => (None, authority),
        };
        let default = if scheme == "https" { "443" } else { "80" };
        let (host, port) = match host.rsplit_once(':') {
            // An address of IPv6 without a port ends with a bracket.
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
            _ => (host, default),
        };
        Some(Self {
            scheme,
            user,
            host: host.to_ascii_lowercase(),
            port: port.to_owned(),
            path: path.to_owned(),
        })
    }
}

/// A path as Git reads it: `~/` is the home folder.
fn at_home(path: &str) -> String {
    let home = std::env::var("HOME").or_else(|_| std::env::var("USERPROFILE"));
    match (path.strip_prefix("~/"), home) {
        (Some(rest), Ok(home)) => format!("{home}/{rest}"),
        _ => path.to_owned(),
    }
}

/// As Git reads truth.
fn is_false(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "false" | "no" | "off" | "0" | "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_apply_to_the_addresses_that_git_says() {
        let set = |entries: &[(&str, &str)]| -> Vec<(String, String)> {
            let owned = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
            entries.iter().map(owned).collect()
        };
        let all = set(&[
            ("http.extraheader", "X-All: 1"),
            ("http.https://x.org/.extraheader", "X-Host: 2"),
            ("http.https://x.org/anna.extraheader", "X-Path: 3"),
            ("http.https://*.org.extraheader", "X-Any: 4:5"),
            ("http.http://x.org/.extraheader", "X-Plain: no"),
            ("http.https://x.org:444/.extraheader", "X-Port: no"),
            ("http.https://ben@x.org/.extraheader", "X-User: no"),
            ("http.https://x.org/ann.extraheader", "X-Part: no"),
        ]);
        let names = |settings: &[(String, String)], address: &str| -> Vec<String> {
            let found = headers(settings, address);
            found.iter().map(|(name, value)| format!("{name}={value}")).collect()
        };
        assert_eq!(
            names(&all, "https://anna@X.org:443/anna/song.git"),
            ["X-All=1", "X-Host=2", "X-Path=3", "X-Any=4:5"]
        );
        assert_eq!(names(&all, "https://y.net/anna"), ["X-All=1"]);
        let again = set(&[
            ("http.extraheader", "A: 1"),
            ("http.extraheader", ""),
            ("http.extraheader", "B: 2"),
        ]);
        assert_eq!(names(&again, "http://x.org"), ["B=2"]);
    }
}
