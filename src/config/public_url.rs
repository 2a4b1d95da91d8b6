//! What may stand in `server.public_url`.

/// Longest address, in bytes.
const MAX_URL_BYTES: usize = 2048;

/// Whether `text` is an `http` or `https` address that links can be made from by adding a path:
/// no user, query, fragment, empty or dotted path segment; one slash at its end does no harm.
pub(super) fn is_public_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    text.len() <= MAX_URL_BYTES && ["http", "https"].contains(&scheme) && is_authority(authority) && is_path(path)
}

fn is_authority(authority: &str) -> bool {
    let (host, port) = if let Some(bracketed) = authority.strip_prefix('[') {
        let Some((address, after)) = bracketed.split_once(']') else {
            return false;
        };
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        match after.strip_prefix(':') {
            Some(port) => ("v6", Some(port)),
            None if after.is_empty() => ("v6", None),
            None => return false,
        }
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    let host_holds = !host.is_empty()
        && host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && label.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
        });
    let port_holds = port
        .is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0));
    host_holds && port_holds
}

fn is_path(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    path.is_empty()
        || path.split('/').skip(1).all(|segment| {
            !segment.is_empty()
                && segment != "."
                && segment != ".."
                && segment.chars().all(|c| c.is_ascii_alphanumeric() || "-_.~".contains(c))
        })
}

#[cfg(test)]
mod tests {
    use super::is_public_url;

    #[test]
    fn an_address_people_can_reach_is_accepted() {
        for good in [
            "https://git.example.org",
            "https://git.example.org/",
            "http://localhost:8420",
            "http://10.0.0.7:80",
            "https://[2001:db8::1]:8443",
            "https://[::1]",
            "https://studio.example.org/auxin",
            "https://studio.example.org/team/auxin/",
        ] {
            assert!(is_public_url(good), "{good}");
        }
    }

    #[test]
    fn an_address_that_links_cannot_be_made_from_is_refused() {
        for bad in [
            "",
            "git.example.org",
            "ssh://git.example.org",
            "HTTPS//x",
            "https://",
            "https:///x",
            "https://anna@git.example.org",
            "https://git.example.org?x=1",
            "https://git.example.org/a?x",
            "https://git.example.org/#top",
            "https://git.example.org//",
            "https://git.example.org/a//b",
            "https://git.example.org/../x",
            "https://git.example.org:0",
            "https://git.example.org:",
            "https://git.example.org:+80",
            "https://git.example.org:99999",
            "https://[::1",
            "https://[::1]x",
            "https://[nope]",
            "https://git example.org",
            "https://git..example.org",
            "https://git.example.org/a b",
            "https://git.example.org\n",
        ] {
            assert!(!is_public_url(bad), "{bad:?}");
        }
    }
}
