//! What becomes of a push certificate: it is kept, and hooks are told of it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

use gix::ObjectId;

use super::certificate::{Certificate, NonceStatus, Nonces};
use super::now_secs;
use super::serve::{Command, Session};
use crate::git::object_store::ObjectKind;
use crate::git::quarantine::Quarantine;

/// What hooks are told of a push certificate, in git's variables. The signature is not verified here: its
/// status is git's `E` ("cannot be checked"), or `N` if there is none.
pub(super) fn about_certificate(
    id: ObjectId,
    certificate: &Certificate,
    nonces: &Nonces<'_>,
) -> Vec<(OsString, OsString)> {
    let now_secs = now_secs();
    let nonce = certificate.header("nonce").next();
    let status = nonces.check(nonce, now_secs);
    // As in git: the nonce as it would be now, unless that of the certificate counts as such.
    let asked_for = match (status, nonce) {
        (NonceStatus::Ok, Some(nonce)) => OsStr::from_bytes(nonce).to_owned(),
        _ => nonces.issue(now_secs).into(),
    };
    let signature = if certificate.is_signed() { "E" } else { "N" };
    let mut environment: Vec<(OsString, OsString)> = vec![
        ("GIT_PUSH_CERT".into(), id.to_string().into()),
        ("GIT_PUSH_CERT_SIGNER".into(), "".into()),
        ("GIT_PUSH_CERT_KEY".into(), "".into()),
        ("GIT_PUSH_CERT_STATUS".into(), signature.into()),
        ("GIT_PUSH_CERT_NONCE".into(), asked_for),
        ("GIT_PUSH_CERT_NONCE_STATUS".into(), status.word().into()),
    ];
    if let NonceStatus::Slop(secs) = status {
        environment.push(("GIT_PUSH_CERT_NONCE_SLOP".into(), secs.to_string().into()));
    }
    environment
}

impl Session<'_> {
    /// Puts the push certificate among the pushed objects.
    pub(super) fn keep_certificate(&self, commands: &mut [Command], quarantine: &mut Option<Quarantine>) {
        let (Some(id), Some(certificate)) = (self.certificate, &self.commands.certificate) else {
            return;
        };
        if !commands.iter().any(Command::is_open) {
            return;
        }
        let keep = |quarantine: &mut Option<Quarantine>| -> io::Result<()> {
            if quarantine.is_none() {
                *quarantine = Some(Quarantine::new(&self.repository.objects_dir())?);
            }
            match quarantine {
                Some(quarantine) => quarantine.add_loose(&id, ObjectKind::Blob.as_str(), &certificate.text),
                None => Ok(()),
            }
        };
        if let Err(error) = keep(quarantine) {
            tracing::error!(repository = %self.repository.path().display(), %error, "a push certificate cannot be stored");
            commands
                .iter_mut()
                .for_each(|command| command.refuse("the push certificate cannot be stored"));
        }
    }
}
