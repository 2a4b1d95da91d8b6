//! A bucket of an S3-compatible service as the store.
//!
//! Only what every such service does is relied on: PUT, GET with ranges, DELETE, LIST and multipart uploads.
//! Objects are written under fresh keys, so a request that is sent twice, or arrives late, writes the same bytes
//! where nobody looks yet; conditional requests decide nothing.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use super::{Place, StorageError, Store};
use crate::config::StoreSettings;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Store {
    /// A bucket. Keys come from the environment as for other programs (`AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY`, or the machine's role). Asks nobody yet.
    ///
    /// # Errors
    /// [`StorageError::Bucket`]
    pub fn in_bucket(settings: &StoreSettings) -> Result<Self, StorageError> {
        let failed = |cause: Option<object_store::Error>| StorageError::Bucket {
            url: settings.url.clone(),
            cause,
        };
        let (name, prefix) = settings.bucket().ok_or_else(|| failed(None))?;
        let timeout = Duration::from_secs(settings.timeout_secs);
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(name)
            .with_client_options(
                ClientOptions::new()
                    .with_allow_http(settings.allow_http)
                    .with_connect_timeout(CONNECT_TIMEOUT)
                    .with_timeout(timeout),
            )
            .with_retry(RetryConfig {
                backoff: BackoffConfig::default(),
                max_retries: settings.max_retries,
                retry_timeout: timeout,
            });
        if !settings.endpoint.is_empty() {
            builder = builder.with_endpoint(&settings.endpoint);
        }
        if !settings.region.is_empty() {
            builder = builder.with_region(&settings.region);
        }
        let objects = builder.build().map_err(|cause| failed(Some(cause)))?;
        Ok(Self {
            objects: match prefix {
                "" => Arc::new(objects),
                prefix => Arc::new(PrefixStore::new(objects, Path::from(prefix))),
            },
            place: Place::Bucket,
        })
    }
}
