//! Which repository and which part of it an address means.
//!
//! The path is percent-decoded once and then cut at its slashes; from there on there are only
//! names, which their parser has checked, and never a path on disk.

use percent_encoding::percent_decode_str;

use crate::names::{BadName, RepoAddress};

/// What a request asks of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GitRoute {
    /// `info/refs`: what is there.
    InfoRefs,
    /// `git-upload-pack`: a fetch.
    UploadPack,
    /// `git-receive-pack`: a push.
    ReceivePack,
    /// `HEAD` and `objects/…`: the protocol of git before 1.6.6, and archives; not served.
    NotServed,
    /// `/-/bundles/…`: a bundle of it, see [`bundle_name`].
    Bundle,
    /// `info/lfs/…`: large files, see [`lfs_part`].
    Lfs,
    /// The repository's own address, as a person types it.
    Root,
    /// `/api/v1/repos/…/locks…`, see [`locks_part`].
    Locks,
    /// `/api/v1/repos/…/compare/A...B`, see [`compare_ends`].
    Compare,
}

/// A part of the Git LFS API. Names are not checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LfsPart {
    /// `objects/batch`
    Batch,
    /// `objects/{oid}`
    Object(String),
    /// `objects/{oid}/{size}`
    Upload(String, String),
    /// `verify`
    Verify,
    /// `auxin/…`: the chunked transfer.
    Chunked(ChunkedPart),
    /// `locks`
    Locks,
    /// `locks/verify`
    VerifyLocks,
    /// `locks/{id}/unlock`
    Unlock(String),
    /// Anything else.
    Unknown,
}

/// A part of the chunked transfer. Names are not checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ChunkedPart {
    /// `token`
    Token,
    /// `missing`
    Missing,
    /// `packs/{sha256}`
    Pack(String),
    /// `objects/{oid}`
    Object(String),
    /// `objects/{oid}/proof`
    Proof(String),
    /// `objects/{oid}/recipe`
    Recipe(String),
    /// `objects/{oid}/chunks`
    Chunks(String),
}

/// What an address means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A part of a repository.
    Git(RepoAddress, GitRoute),
    /// A part of a repository that cannot exist, since no repository has such a name.
    BadName(BadName, GitRoute),
    /// Nothing that this server knows.
    Unknown,
}

/// Reads the path of a request.
///
/// Empty segments count as nothing: some programs add a slash to an address that ends in one.
pub(super) fn parse(raw_path: &str) -> Address {
    let Ok(path) = percent_decode_str(raw_path).decode_utf8() else {
        return Address::Unknown;
    };
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    let is_trick = |segment: &&str| matches!(*segment, "." | "..") || segment.contains(['\0', '\\']);
    if segments.iter().any(is_trick) {
        return Address::Unknown;
    }
    let (owner, name, rest) = match segments.as_slice() {
        // Nobody can be called `-`.
        ["-", "bundles", owner, name, rest @ ..] if rest.len() == 1 => return found(owner, name, GitRoute::Bundle),
        // Nor `api`.
        ["api", "v1", "repos", owner, name, "locks" | "lock-rules", ..] => return found(owner, name, GitRoute::Locks),
        ["api", "v1", "repos", owner, name, "compare", _, ..] => return found(owner, name, GitRoute::Compare),
        [owner, name, rest @ ..] => (owner, name, rest),
        _ => return Address::Unknown,
    };
    let route = match rest {
        ["info", "refs"] => GitRoute::InfoRefs,
        ["git-upload-pack"] => GitRoute::UploadPack,
        ["git-receive-pack"] => GitRoute::ReceivePack,
        ["info", "lfs", ..] => GitRoute::Lfs,
        ["HEAD" | "git-upload-archive"] | ["objects", ..] => GitRoute::NotServed,
        [] => GitRoute::Root,
        _ => return Address::Unknown,
    };
    found(owner, name, route)
}

fn found(owner: &str, name: &str, route: GitRoute) -> Address {
    match RepoAddress::from_parts(owner, name) {
        Ok(address) => Address::Git(address, route),
        Err(error) => Address::BadName(error, route),
    }
}

/// The two names in the path of a [`GitRoute::Compare`]; `None` if there are not two.
pub(super) fn compare_ends(raw_path: &str) -> Option<(String, String)> {
    let path = percent_decode_str(raw_path).decode_utf8_lossy();
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).skip(6).collect();
    let ends = segments.join("/");
    let (before, after) = ends.split_once("...")?;
    let is_named = !before.is_empty() && !after.is_empty();
    is_named.then(|| (before.to_owned(), after.to_owned()))
}

/// What of the LFS API the path of a [`GitRoute::Lfs`] means.
pub(super) fn lfs_part(raw_path: &str) -> LfsPart {
    let path = percent_decode_str(raw_path).decode_utf8_lossy();
    let mut segments = path.split('/').filter(|segment| !segment.is_empty()).skip(2 + 2);
    let parts: [Option<&str>; 5] = std::array::from_fn(|_| segments.next());
    match parts {
        [Some("objects"), Some("batch"), None, ..] => LfsPart::Batch,
        [Some("objects"), Some(oid), None, ..] => LfsPart::Object(oid.to_owned()),
        [Some("objects"), Some(oid), Some(size), None, _] => LfsPart::Upload(oid.to_owned(), size.to_owned()),
        [Some("verify"), None, ..] => LfsPart::Verify,
        [Some("auxin"), rest @ ..] => chunked_part(rest).map_or(LfsPart::Unknown, LfsPart::Chunked),
        [Some("locks"), None, ..] => LfsPart::Locks,
        [Some("locks"), Some("verify"), None, ..] => LfsPart::VerifyLocks,
        [Some("locks"), Some(id), Some("unlock"), None, _] => LfsPart::Unlock(id.to_owned()),
        _ => LfsPart::Unknown,
    }
}

fn chunked_part(parts: [Option<&str>; 4]) -> Option<ChunkedPart> {
    match parts {
        [Some("token"), None, ..] => Some(ChunkedPart::Token),
        [Some("missing"), None, ..] => Some(ChunkedPart::Missing),
        [Some("packs"), Some(sha256), None, _] => Some(ChunkedPart::Pack(sha256.to_owned())),
        [Some("objects"), Some(oid), None, _] => Some(ChunkedPart::Object(oid.to_owned())),
        [Some("objects"), Some(oid), Some("proof"), None] => Some(ChunkedPart::Proof(oid.to_owned())),
        [Some("objects"), Some(oid), Some("recipe"), None] => Some(ChunkedPart::Recipe(oid.to_owned())),
        [Some("objects"), Some(oid), Some("chunks"), None] => Some(ChunkedPart::Chunks(oid.to_owned())),
        _ => None,
    }
}

/// A part of the locks of a repository. Names are not checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LocksPart {
    /// `locks`
    All,
    /// `lock-rules`
    Rules,
    /// `locks/{id}`
    One(String),
    /// `locks/{id}/{act}`
    Act(String, String),
    /// Anything else.
    Unknown,
}

/// What the path of a [`GitRoute::Locks`] means.
pub(super) fn locks_part(raw_path: &str) -> LocksPart {
    let path = percent_decode_str(raw_path).decode_utf8_lossy();
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).skip(5).collect();
    match segments.as_slice() {
        ["locks"] => LocksPart::All,
        ["lock-rules"] => LocksPart::Rules,
        ["locks", id] => LocksPart::One((*id).to_owned()),
        ["locks", id, act] => LocksPart::Act((*id).to_owned(), (*act).to_owned()),
        _ => LocksPart::Unknown,
    }
}

/// The last part of the path of a [`GitRoute::Bundle`]. A name and never a path, but not checked further.
pub(super) fn bundle_name(raw_path: &str) -> &str {
    raw_path.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(path: &str) -> Option<(String, GitRoute)> {
        match parse(path) {
            Address::Git(address, route) => Some((address.to_string(), route)),
            _ => None,
        }
    }

    #[test]
    fn a_repository_is_found_with_and_without_dot_git_and_slashes() {
        for path in [
            "/anna/song/info/refs",
            "/anna/song.git/info/refs",
            "/anna/song.git//info/refs",
            "/anna/%73ong.git/info/refs",
        ] {
            assert_eq!(git(path), Some(("anna/song".into(), GitRoute::InfoRefs)), "{path}");
        }
        assert_eq!(git("/anna/song/"), Some(("anna/song".into(), GitRoute::Root)));
        assert_eq!(
            git("/anna/song.git/objects/info/packs"),
            Some(("anna/song".into(), GitRoute::NotServed))
        );
    }

    #[test]
    fn parts_of_the_lfs_api_are_told_apart() {
        let part = |rest: &str| lfs_part(&format!("/anna/song.git/info/lfs/{rest}"));
        assert_eq!(
            git("/anna/song.git/info/lfs/x"),
            Some(("anna/song".into(), GitRoute::Lfs))
        );
        assert_eq!(part("objects/batch"), LfsPart::Batch);
        assert_eq!(part("objects/ab"), LfsPart::Object("ab".into()));
        assert_eq!(part("objects/ab/12"), LfsPart::Upload("ab".into(), "12".into()));
        assert_eq!(part("verify"), LfsPart::Verify);
        let chunked = |part| LfsPart::Chunked(part);
        assert_eq!(part("auxin/token"), chunked(ChunkedPart::Token));
        assert_eq!(part("auxin/missing"), chunked(ChunkedPart::Missing));
        assert_eq!(part("auxin/packs/ab"), chunked(ChunkedPart::Pack("ab".into())));
        assert_eq!(part("auxin/objects/ab"), chunked(ChunkedPart::Object("ab".into())));
        assert_eq!(part("auxin/objects/ab/proof"), chunked(ChunkedPart::Proof("ab".into())));
        assert_eq!(
            part("auxin/objects/ab/recipe"),
            chunked(ChunkedPart::Recipe("ab".into()))
        );
        assert_eq!(
            part("auxin/objects/ab/chunks"),
            chunked(ChunkedPart::Chunks("ab".into()))
        );
        assert_eq!(part("locks"), LfsPart::Locks);
        assert_eq!(part("locks/verify"), LfsPart::VerifyLocks);
        assert_eq!(part("locks/12/unlock"), LfsPart::Unlock("12".into()));
        for other in [
            "",
            "objects",
            "objects/ab/12/x",
            "verify/x",
            "auxin",
            "auxin/token/x",
            "auxin/objects/ab/chunks/x",
            "locks/12",
            "locks/12/x",
            "locks/12/unlock/x",
        ] {
            assert_eq!(part(other), LfsPart::Unknown, "{other}");
        }
    }

    #[test]
    fn bundles_lie_below_a_name_that_nobody_can_have() {
        for path in ["/-/bundles/anna/song/1-a.bundle", "/-/bundles/anna/song.git/x"] {
            assert_eq!(git(path), Some(("anna/song".into(), GitRoute::Bundle)), "{path}");
        }
        assert_eq!(bundle_name("/-/bundles/anna/song/1-a.bundle"), "1-a.bundle");
        for path in [
            "/-/bundles/anna/song",
            "/-/bundles/anna/song/a/b",
            "/-/bundles/anna/../song/a",
        ] {
            assert_eq!(parse(path), Address::Unknown, "{path}");
        }
    }

    #[test]
    fn tricks_with_the_path_mean_nothing() {
        for path in [
            "/anna/../song/info/refs",
            "/anna/%2e%2e/song/info/refs",
            "/anna/..%2fsong/info/refs",
            "/anna/song%00.git/info/refs",
            "/anna\\song/x/info/refs",
            "/anna/song%5c..%5cx/info/refs",
            "/anna/%ff/info/refs",
            "/anna/song/info/refs/../refs",
            "/anna",
            "/",
            "//",
        ] {
            assert_eq!(parse(path), Address::Unknown, "{path}");
        }
    }

    #[test]
    fn the_path_is_decoded_once() {
        // "%252e" is the text "%2e", not a dot; a name cannot hold it.
        assert!(matches!(parse("/anna/%252e%252e/info/refs"), Address::BadName(..)));
    }

    #[test]
    fn a_name_that_cannot_be_is_told_from_an_unknown_page() {
        assert!(matches!(parse("/anna/my%20song.git/info/refs"), Address::BadName(..)));
    }
}
