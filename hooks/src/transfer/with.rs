//! Other repositories of the same server whose chunks count as there: those that other remotes name, and those of
//! the setting `auxin.with`.

use super::lines::Failure;
use crate::git;

/// Most repositories that are named to the server.
const MAX_REPOSITORIES: usize = 16;

/// As a query, without a question mark; empty if there are none. `base` is the address of the transfer.
///
/// # Errors
/// A [`Failure`] if Git does not tell, or `auxin.with` names no repository.
pub fn query(base: &str) -> Result<String, Failure> {
    let found = git::settings(&["--get-regexp", r"^remote\..*\.(push)?url$|^auxin\.with$"]);
    let found = found.map_err(|error| Failure::new(500, error.to_string()))?;
    let Some((server, own)) = target(base) else {
        return Ok(String::new());
    };
    let mut names: Vec<String> = Vec::new();
    for (key, value) in found {
        let name = if key.eq_ignore_ascii_case("auxin.with") {
            let name = repository(&value);
            Some(name.ok_or_else(|| {
                let sentence = format!("auxin.with is {value:?}, but it names repositories as OWNER/NAME");
                Failure::new(422, sentence)
            })?)
        } else {
            without_user(&value)
                .strip_prefix(&server)
                .and_then(|rest| repository(rest.strip_prefix('/')?))
        };
        if let Some(name) = name.filter(|name| *name != own && !names.contains(name)) {
            names.push(name);
        }
    }
    names.truncate(MAX_REPOSITORIES);
    let parts: Vec<_> = names.iter().map(|name| format!("with={name}")).collect();
    Ok(parts.join("&"))
}

/// The address of the server, and the repository that a transfer is for.
fn target(base: &str) -> Option<(String, String)> {
    let base = without_user(base);
    let address = base.strip_suffix("/info/lfs/auxin")?;
    let (rest, name) = address.rsplit_once('/')?;
    let (server, owner) = rest.rsplit_once('/')?;
    Some((server.to_owned(), repository(&format!("{owner}/{name}"))?))
}

/// `OWNER/NAME`, if it is one.
fn repository(text: &str) -> Option<String> {
    let text = text.trim_end_matches('/');
    let (owner, name) = text.strip_suffix(".git").unwrap_or(text).split_once('/')?;
    let is_word = |word: &str| {
        let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "-._~".contains(letter);
        !word.is_empty() && word.chars().all(is_letter)
    };
    (is_word(owner) && is_word(name)).then(|| format!("{owner}/{name}"))
}

/// An address without the user before its host.
fn without_user(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else {
        return address.to_owned();
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_server_are_taken_apart() {
        assert_eq!(
            target("https://x.org/git/anna/song.git/info/lfs/auxin"),
            Some(("https://x.org/git".to_owned(), "anna/song".to_owned()))
        );
        assert_eq!(target("https://x.org/info/lfs/objects"), None);
        assert_eq!(without_user("https://anna:pw@x.org/a/b"), "https://x.org/a/b");
        assert_eq!(without_user("git@x.org:a/b"), "git@x.org:a/b");
        assert_eq!(repository("ben/loops.git/"), Some("ben/loops".to_owned()));
        for bad in ["ben", "ben/", "a/b/c", "a/b?c", "/b", ""] {
            assert_eq!(repository(bad), None, "{bad}");
        }
    }
}
