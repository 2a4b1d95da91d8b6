//! Fetches: what is there, and the objects of it, live or as a bundle that lies ready.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::access::Opened;
use super::push::Pushes;
use super::transfer::coding::{self, Coding, Exceeded};
use super::transfer::spool::Spool;
use super::transfer::{
    AdmittedRequest, Answer, CallerKey, Errors, Incoming, Kind, Transfer, TransferError, check_switch, note_session,
    snapshot,
};
use crate::git::ObjectId;
use crate::git::advertise::offers_bundle_uri;
use crate::git::bundle;
use crate::git::snapshot::{Repository, Snapshot};
use crate::git::upload_pack::{self, Protocol, UploadOptions};
use crate::git::work::Work;
use crate::names::RepoAddress;

/// First bytes of a request that tell whether it only lists refs.
const LISTING_PEEK_BYTES: usize = 64;

/// What somebody fetches, and from where.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// The repository, opened for reading.
    pub repo: Opened,
    /// In which version of the protocol.
    pub protocol: Protocol,
    /// Whose request it is.
    pub caller: CallerKey,
}

/// A bundle that is about to be sent.
pub struct BundleFile {
    /// The file.
    pub file: File,
    /// Its length, in bytes.
    pub len_bytes: u64,
    /// Its name, which no other content ever has.
    pub name: String,
    /// To be kept as long as it is being sent.
    pub admitted: AdmittedRequest,
}

/// Runs fetches. Cheap to clone.
#[derive(Clone)]
pub struct Fetches {
    transfer: Transfer,
    pushes: Pushes,
}

impl Fetches {
    /// `pushes` knows what refs named lately.
    pub fn new(transfer: Transfer, pushes: Pushes) -> Self {
        Self { transfer, pushes }
    }

    /// The answer to `GET info/refs?service=git-upload-pack`.
    ///
    /// # Errors
    /// [`TransferError`] while nothing has been sent.
    pub async fn advertise(&self, fetch: Fetch) -> Result<Answer, TransferError> {
        let admitted = self.transfer.admit(fetch.caller)?;
        let this = self.clone();
        let handle = Handle::current();
        self.transfer
            .run(Kind::Listing, Errors::BreakOff, admitted, None, move |tools| {
                let (_, seen) = this.open(&handle, &fetch)?;
                let options = this.options(&fetch, &Vec::new, None, &seen, tools.work);
                upload_pack::advertise(&seen, &options, tools.output)?;
                Ok(())
            })
            .await
    }

    /// The answer to `POST git-upload-pack`.
    ///
    /// # Errors
    /// [`TransferError`] while nothing has been sent; what happens later is told in the stream.
    pub async fn fetch(&self, fetch: Fetch, incoming: Incoming) -> Result<Answer, TransferError> {
        let max_bytes = self.transfer.config().git.max_request_bytes;
        let admitted = self.transfer.admit(fetch.caller)?;
        let spool = Spool::read(
            incoming.body,
            self.transfer.tmp_dir(),
            max_bytes,
            self.transfer.silence(),
        )
        .await?;
        let coding = incoming.coding;
        let (spool, is_listing) = peek(spool, coding, fetch.protocol);
        let kind = if is_listing { Kind::Listing } else { Kind::Pack };
        let this = self.clone();
        let handle = Handle::current();
        self.transfer
            .run(kind, Errors::InStream, admitted, None, move |tools| {
                let (repository, seen) = this.open(&handle, &fetch)?;
                let exceeded = Exceeded::default();
                let mut input = coding::decoded(spool, coding, max_bytes, &exceeded);
                let grace_tips = || this.pushes.grace_tips(&handle, &fetch.repo);
                let bundle_base = bundle_base(&fetch.repo.address);
                let options = this.options(&fetch, &grace_tips, Some(&bundle_base), &seen, tools.work);
                match upload_pack::serve(&repository, &options, &mut *input, tools.output) {
                    Ok(stats) => {
                        note_session(stats.client.session_id.as_deref(), stats.client.agent.as_deref());
                        tracing::debug!(?stats, "Fetch served");
                        Ok(())
                    }
                    Err(_) if exceeded.is_set() => Err(TransferError::TooLarge { max_bytes }),
                    Err(error) => Err(error.into()),
                }
            })
            .await
    }

    /// The bundle of this name, if the repository offers bundles and the caller may have all that is in it.
    ///
    /// # Errors
    /// [`TransferError::NoBundle`] if there is none for this caller; others if it cannot be found out.
    pub async fn bundle(&self, fetch: Fetch, name: String) -> Result<BundleFile, TransferError> {
        let admitted = self.transfer.admit(fetch.caller)?;
        let this = self.clone();
        let handle = Handle::current();
        let made = self
            .transfer
            .compute(Kind::Listing, admitted, move |work| {
                let (repository, seen) = this.open(&handle, &fetch)?;
                let grace_tips = || this.pushes.grace_tips(&handle, &fetch.repo);
                let options = this.options(&fetch, &grace_tips, None, &seen, work);
                if !offers_bundle_uri(&seen, options.limits) {
                    return Err(TransferError::NoBundle);
                }
                let found = bundle::open(&bundle::folder(repository.path()), &name).map_err(TransferError::Bundle)?;
                let (stored, file) = found.ok_or(TransferError::NoBundle)?;
                if !upload_pack::may_have_bundle(&repository, &options, &stored)? {
                    return Err(TransferError::NoBundle);
                }
                Ok((stored, file))
            })
            .await;
        made.map(|((stored, file), admitted)| BundleFile {
            file,
            len_bytes: stored.len_bytes,
            name: stored.name,
            admitted,
        })
    }

    fn options<'a>(
        &'a self,
        fetch: &Fetch,
        grace_tips: &'a dyn Fn() -> Vec<ObjectId>,
        bundle_base: Option<&'a str>,
        seen: &'a Arc<Snapshot>,
        work: &'a Work,
    ) -> UploadOptions<'a> {
        UploadOptions {
            protocol: fetch.protocol,
            limits: &self.transfer.config().git,
            grace_tips,
            bundle_base,
            seen: Some(seen),
            work,
        }
    }

    /// Opens the repository, if its own configuration lets it be fetched from.
    fn open(&self, handle: &Handle, fetch: &Fetch) -> Result<(Arc<Repository>, Arc<Snapshot>), TransferError> {
        let repo = &fetch.repo;
        let repository = self.transfer.open(&repo.path, repo.trust_hooks)?;
        let now = snapshot(&repository)?;
        check_switch(now.config.http_upload_pack, "fetches")?;
        self.pushes.notice(handle, repo.id, &repository, &now);
        Ok((repository, now))
    }
}

/// Where bundles of a repository are, as seen from its own address. Relative, so that a password in
/// that address counts for them, too, and whatever proxies stand in between.
fn bundle_base(address: &RepoAddress) -> String {
    format!("../../-/bundles/{address}")
}

/// Whether a request only lists refs, so that it need not wait behind packs being built.
fn peek(spool: Spool, coding: Coding, protocol: Protocol) -> (Box<dyn Read + Send>, bool) {
    let Spool::Memory(mut bytes) = spool else {
        return (Box::new(spool), false);
    };
    let mut head = Vec::new();
    let is_read = coding::decoded(
        bytes.get_ref().as_slice(),
        coding,
        LISTING_PEEK_BYTES as u64,
        &Exceeded::default(),
    )
    .take(LISTING_PEEK_BYTES as u64)
    .read_to_end(&mut head)
    .is_ok();
    bytes.set_position(0);
    let is_listing =
        protocol == Protocol::V2 && is_read && head.get(4..).is_some_and(|line| line.starts_with(b"command=ls-refs"));
    (Box::new(bytes), is_listing)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn is_listing(body: &[u8], protocol: Protocol) -> bool {
        let (mut body_again, is_listing) = peek(Spool::Memory(Cursor::new(body.to_vec())), Coding::Plain, protocol);
        let mut read = Vec::new();
        body_again.read_to_end(&mut read).expect("memory");
        assert_eq!(read, body, "a look must not eat anything");
        is_listing
    }

    #[test]
    fn a_list_of_refs_need_not_wait_behind_packs() {
        assert!(is_listing(b"0014command=ls-refs\n0000", Protocol::V2));
        assert!(!is_listing(b"0012command=fetch\n0000", Protocol::V2));
        assert!(!is_listing(b"0014command=ls-refs\n0000", Protocol::V0));
        assert!(!is_listing(b"", Protocol::V2));
    }
}
