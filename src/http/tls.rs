//! The server's own TLS: certificate files, read again when they change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::ServerSettings;

/// The certificate files are looked at no more often than this.
const RECHECK: Duration = Duration::from_secs(1);

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or is not PEM.
    #[error(
        "the file {} cannot be read: {cause}; name files in PEM with server.tls_cert_file and server.tls_key_file",
        path.display()
    )]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: rustls::pki_types::pem::Error,
    },
    /// The file holds no certificate.
    #[error("the file {} holds no certificate; name one in PEM with server.tls_cert_file", .0.display())]
    NoCertificate(PathBuf),
    /// Certificate and key do not fit, or are of a kind that cannot be used.
    #[error(
        "the certificate in {} cannot be used: {cause}; check that server.tls_key_file is its key",
        path.display()
    )]
    Unusable {
        /// The certificate file.
        path: PathBuf,
        /// What rustls says.
        cause: rustls::Error,
    },
}

/// Whether a server with these settings can speak TLS, if it is to: reads both files.
///
/// # Errors
/// [`TlsError`] as [`serve`](super::serve) would give it.
pub fn check_certificate(settings: &ServerSettings) -> Result<(), TlsError> {
    match (&settings.tls_cert_file, &settings.tls_key_file) {
        (Some(cert), Some(key)) => acceptor(cert, key).map(drop),
        _ => Ok(()),
    }
}

/// TLS with a certificate that follows its files.
pub(super) struct Tls {
    cert_file: PathBuf,
    key_file: PathBuf,
    current: Mutex<Current>,
}

struct Current {
    acceptor: TlsAcceptor,
    stamps: Stamps,
    checked: Instant,
}

/// Modification time and length of both files: what tells that they changed.
type Stamps = [Option<(SystemTime, u64)>; 2];

impl Tls {
    /// Reads both files.
    ///
    /// # Errors
    /// [`TlsError`] when a file cannot be read or used.
    pub(super) fn open(cert_file: &Path, key_file: &Path) -> Result<Self, TlsError> {
        let stamps = stamps(cert_file, key_file);
        Ok(Self {
            cert_file: cert_file.to_owned(),
            key_file: key_file.to_owned(),
            current: Mutex::new(Current {
                acceptor: acceptor(cert_file, key_file)?,
                stamps,
                checked: Instant::now(),
            }),
        })
    }

    /// What accepts the next handshake. Looks whether the files changed; if the new ones cannot
    /// be used, says so in the log and goes on with the old ones, since a half-written renewal
    /// must not take the server down.
    ///
    /// May block for two `stat` calls.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.checked.elapsed() >= RECHECK {
            current.checked = Instant::now();
            let stamps = stamps(&self.cert_file, &self.key_file);
            if stamps != current.stamps {
                match acceptor(&self.cert_file, &self.key_file) {
                    Ok(acceptor) => {
                        current.acceptor = acceptor;
                        tracing::info!("The TLS certificate was read again from {}", self.cert_file.display());
                    }
                    Err(error) => tracing::error!(
                        %error,
                        "The TLS certificate changed but cannot be used; the old one stays"
                    ),
                }
                current.stamps = stamps;
            }
        }
        current.acceptor.clone()
    }
}

fn stamps(cert_file: &Path, key_file: &Path) -> Stamps {
    [cert_file, key_file].map(|path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

fn acceptor(cert_file: &Path, key_file: &Path) -> Result<TlsAcceptor, TlsError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |cause| TlsError::File { path, cause }
    };
    let chain = CertificateDer::pem_file_iter(cert_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unreadable(cert_file))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(cert_file.to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(unreadable(key_file))?;
    let unusable = |cause| TlsError::Unusable {
        path: cert_file.to_owned(),
        cause,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
