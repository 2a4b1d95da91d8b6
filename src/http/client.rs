//! Who a request comes from, with and without a proxy in between.
//!
//! `Forwarded` (RFC 7239) and `X-Forwarded-For`/`-Proto` are believed only as far as networks of
//! `server.trusted_proxies` wrote them: reading from the right, the first address that is not a
//! trusted proxy is the client; whatever stands left of it the client may have made up.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// Most addresses in a forwarding header that are looked at, from the right.
const HOPS_MAX: usize = 32;

/// Headers by which a proxy gives itself away, beside all that begin with `x-forwarded-`.
const PROXY_HEADERS: [&str; 4] = ["forwarded", "via", "x-real-ip", "true-client-ip"];

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client {
    /// The address of the client, not of a trusted proxy before it.
    pub(super) address: IpAddr,
    /// Whether the client itself reached us over TLS.
    pub(super) secure: bool,
    /// Whether the request was made on this machine: the connection comes from loopback, and no
    /// header says that it went through a proxy. A proxy on this machine that says nothing at all
    /// cannot be told from a program on it.
    pub(super) local: bool,
}

impl Client {
    /// Reads who is behind the connection from `peer`; `tls` tells whether we speak TLS ourselves.
    pub(super) fn of(peer: SocketAddr, tls: bool, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let peer = peer.ip().to_canonical();
        let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
        let forwarded = hops(headers);
        let mut client = Self {
            address: peer,
            secure: tls,
            // Whom a proxy speaks for is not known, until one that is trusted says so.
            local: peer.is_loopback() && !is_proxied(headers),
        };
        if !is_trusted(&peer) {
            return client;
        }
        for hop in forwarded.iter().rev().take(HOPS_MAX) {
            // "unknown" or an invented name: all we know is the last proxy that we trust.
            let Some(address) = hop.address else {
                client.local = false;
                break;
            };
            client.address = address;
            client.local = address.is_loopback();
            if let Some(secure) = hop.secure {
                client.secure = secure;
            }
            if !is_trusted(&address) {
                break;
            }
        }
        client
    }
}

fn is_proxied(headers: &HeaderMap) -> bool {
    headers
        .keys()
        .any(|name| name.as_str().starts_with("x-forwarded-") || PROXY_HEADERS.contains(&name.as_str()))
}

/// One step of the way a request took.
#[derive(Clone, Copy, Debug)]
struct Hop {
    address: Option<IpAddr>,
    secure: Option<bool>,
}

/// The steps that forwarding headers tell of, client first.
///
/// With both kinds present `X-Forwarded-For` counts: it is what proxies write unless told
/// otherwise, and such a proxy hands on a `Forwarded` that the client invented.
fn hops(headers: &HeaderMap) -> Vec<Hop> {
    let lines = |name: &str| -> Vec<String> {
        headers
            .get_all(name)
            .iter()
            .flat_map(|value| {
                String::from_utf8_lossy(value.as_bytes())
                    .split(',')
                    .map(|item| item.trim().to_owned())
                    .collect::<Vec<_>>()
            })
            .collect()
    };
    if headers.contains_key("x-forwarded-for") {
        let addresses = lines("x-forwarded-for");
        let protos = lines("x-forwarded-proto");
        return addresses
            .iter()
            .enumerate()
            .map(|(at, address)| {
                // Aligned from the right; a proxy that replaces the header leaves one value.
                let proto = (protos.len() + at)
                    .checked_sub(addresses.len())
                    .and_then(|at| protos.get(at));
                Hop {
                    address: node_address(address),
                    secure: proto.map(|proto| proto.eq_ignore_ascii_case("https")),
                }
            })
            .collect();
    }
    lines("forwarded")
        .iter()
        .map(|element| {
            let parameter = |name: &str| {
                element.split(';').find_map(|pair| {
                    let (key, value) = pair.split_once('=')?;
                    key.trim()
                        .eq_ignore_ascii_case(name)
                        .then(|| value.trim().trim_matches('"').to_owned())
                })
            };
            Hop {
                address: parameter("for").as_deref().and_then(node_address),
                secure: parameter("proto").map(|proto| proto.eq_ignore_ascii_case("https")),
            }
        })
        .collect()
}

/// An address as forwarding headers write it: bare, with a port, in brackets.
fn node_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address: IpAddr = text
        .parse()
        .or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()))
        .or_else(|_| text.trim_matches(['[', ']']).parse())
        .ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    use super::Client;

    fn client(peer: &str, headers: &[(&str, &str)]) -> Client {
        let trusted = ["10.0.0.0/8", "127.0.0.1/32", "fd00::/8"].map(|net| net.parse().expect("a network"));
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                HeaderValue::from_str(value).expect("a value"),
            );
        }
        Client::of(peer.parse().expect("an address"), false, &map, &trusted)
    }

    fn address(peer: &str, headers: &[(&str, &str)]) -> String {
        client(peer, headers).address.to_string()
    }

    #[test]
    fn a_stranger_cannot_claim_another_address() {
        let spoofed = [("x-forwarded-for", "127.0.0.1"), ("forwarded", "for=127.0.0.1")];
        assert_eq!(address("203.0.113.9:4000", &spoofed), "203.0.113.9");
        assert!(!client("203.0.113.9:4000", &spoofed).local);
        assert!(!client("203.0.113.9:4000", &[("x-forwarded-proto", "https")]).secure);
    }

    #[test]
    fn behind_a_trusted_proxy_the_rightmost_untrusted_address_is_the_client() {
        let chain = [("x-forwarded-for", "1.1.1.1, 203.0.113.9, 10.1.2.3")];
        assert_eq!(address("10.0.0.1:4000", &chain), "203.0.113.9");

        let split = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "203.0.113.9")];
        assert_eq!(address("10.0.0.1:4000", &split), "203.0.113.9");

        let standard = [(
            "forwarded",
            "for=1.1.1.1;proto=http, For=\"[2001:db8::7]:99\";proto=https",
        )];
        assert_eq!(address("10.0.0.1:4000", &standard), "2001:db8::7");
        assert!(client("10.0.0.1:4000", &standard).secure);
    }

    #[test]
    fn a_forwarded_header_that_the_proxy_did_not_write_is_not_believed() {
        let both = [("forwarded", "for=127.0.0.1"), ("x-forwarded-for", "203.0.113.9")];
        assert_eq!(address("10.0.0.1:4000", &both), "203.0.113.9");
    }

    #[test]
    fn an_unreadable_hop_leaves_the_last_proxy_that_is_known() {
        assert_eq!(
            address("10.0.0.1:4000", &[("x-forwarded-for", "1.1.1.1, unknown, 10.9.9.9")]),
            "10.9.9.9"
        );
    }

    #[test]
    fn only_a_request_made_on_this_machine_is_local() {
        assert!(client("127.0.0.1:4000", &[]).local);
        assert!(client("[::ffff:127.0.0.1]:4000", &[]).local);
        assert!(client("[::1]:4000", &[]).local);
        assert!(!client("127.0.0.1:4000", &[("x-forwarded-for", "203.0.113.9")]).local);
        assert!(!client("[::1]:4000", &[("x-forwarded-for", "127.0.0.1")]).local);
        for name in [
            "x-real-ip",
            "via",
            "x-forwarded-host",
            "x-forwarded-proto",
            "true-client-ip",
        ] {
            // With a trusted proxy and without.
            assert!(!client("127.0.0.1:4000", &[(name, "127.0.0.1")]).local, "{name}");
            assert!(!client("[::1]:4000", &[(name, "127.0.0.1")]).local, "{name}");
        }
    }

    #[test]
    fn the_scheme_is_that_of_the_client_itself() {
        let chain = [
            ("x-forwarded-for", "203.0.113.9, 10.1.2.3"),
            ("x-forwarded-proto", "https"),
        ];
        // One value for two hops: the proxy nearest to us replaced the header.
        assert!(client("10.0.0.1:4000", &chain).secure);
    }
}
