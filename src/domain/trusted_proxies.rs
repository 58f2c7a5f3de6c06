//! The client's address, by which unauthenticated traffic is limited.
//!
//! Behind a proxy, the peer of the connection is the proxy, and the client's address is in
//! `X-Forwarded-For`, which any client can set too. So the header is read only from proxies that
//! the operator trusts. It is read from the right, where each proxy appends the address of its
//! peer, up to the first address that is not trusted. The standard header `Forwarded` (RFC 7239) is
//! ignored: few proxies write it, the others pass on a client's value, and reading both headers
//! would let the client choose one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use super::client_address::ClientAddress;

/// More proxies than any deployment has. It bounds the work, not the length of the header.
const MAX_HOPS: usize = 16;

/// The proxies whose `X-Forwarded-For` is trusted.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Arc<[IpNet]>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("has an item that is neither an address nor a network such as `10.0.0.0/8`")]
pub struct InvalidProxies;

impl TrustedProxies {
    /// Parses a comma-separated list of addresses and networks.
    pub fn parse(text: &str) -> Result<Self, InvalidProxies> {
        let networks = text.split(',').map(|item| network(item.trim()).ok_or(InvalidProxies));
        networks.collect::<Result<_, _>>().map(Self)
    }

    /// `peer` is the peer of the connection, `forwarded` are the `X-Forwarded-For` headers in
    /// order.
    pub fn client_address<'a>(
        &self,
        peer: IpAddr,
        forwarded: impl DoubleEndedIterator<Item = &'a [u8]>,
    ) -> ClientAddress {
        self.address_of(peer, forwarded).into()
    }

    fn address_of<'a>(&self, peer: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'a [u8]>) -> IpAddr {
        // Several headers of one name are one list (RFC 9110, section 5.3).
        let items = forwarded.rev().flat_map(|field| field.rsplit(|byte| *byte == b','));
        let mut client = peer.to_canonical();
        for item in items.take(MAX_HOPS) {
            if !self.0.iter().any(|network| network.contains(&client)) {
                break;
            }
            // An invalid address was not written by a trusted proxy, so the client is the last
            // valid one.
            let Some(address) = std::str::from_utf8(item).ok().and_then(address) else { break };
            client = address;
        }
        client
    }
}

/// A single address is a network of one.
fn network(text: &str) -> Option<IpNet> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
    Some(network.trunc())
}

/// Some proxies write the port, too.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip())).ok()?;
    Some(IpAddr::to_canonical(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn client(trusted: &str, peer: &str, fields: &[&str]) -> IpAddr {
        let proxies =
            if trusted.is_empty() { Ok(TrustedProxies::default()) } else { TrustedProxies::parse(trusted) };
        proxies.expect("proxies").address_of(ip(peer), fields.iter().map(|field| field.as_bytes()))
    }

    #[test]
    fn client_is_peer_unless_peer_is_trusted_proxy() {
        assert_eq!(client("", "192.0.2.1", &["198.51.100.7"]), ip("192.0.2.1"));
        assert_eq!(client("10.0.0.0/8", "192.0.2.1", &["198.51.100.7"]), ip("192.0.2.1"));
    }

    #[test]
    fn client_is_last_untrusted_address_before_trusted_proxies() {
        for (fields, expected) in [
            (&["198.51.100.7"][..], "198.51.100.7"),
            (&["203.0.113.66, 198.51.100.7"], "198.51.100.7"),
            (&["203.0.113.66", "198.51.100.7"], "198.51.100.7"),
            (&["10.0.0.9, 198.51.100.7, 10.1.2.3"], "198.51.100.7"),
            (&["203.0.113.66,198.51.100.7 , 10.1.2.3", "10.9.9.9"], "198.51.100.7"),
            (&["198.51.100.7:4711"], "198.51.100.7"),
            (&["::ffff:198.51.100.7"], "198.51.100.7"),
            (&["2001:db8::7"], "2001:db8::7"),
            (&["[2001:db8::7]"], "2001:db8::7"),
            (&["[2001:db8::7]:443"], "2001:db8::7"),
        ] {
            assert_eq!(client("10.0.0.0/8", "10.0.0.1", fields), ip(expected), "{fields:?}");
            assert_eq!(client("10.0.0.0/8", "::ffff:10.0.0.1", fields), ip(expected), "{fields:?}");
        }
    }

    #[test]
    fn invalid_forwarded_address_leaves_last_valid_one() {
        for fields in [
            &[][..],
            &[""],
            &["unknown"],
            &["198.51.100.7, unknown"],
            &["198.51.100.7, "],
            &["198.51.100.7, _hidden"],
            &["198.51.100.999"],
            &["198.51.100.7;proto=https"],
        ] {
            assert_eq!(client("10.0.0.0/8", "10.0.0.1", fields), ip("10.0.0.1"), "{fields:?}");
        }
        let client_chosen = "1.2.3.4, \u{e4}, 10.2.2.2";
        assert_eq!(client("10.0.0.0/8", "10.0.0.1", &[client_chosen]), ip("10.2.2.2"));
    }

    #[test]
    fn proxy_chain_is_followed_up_to_maximum_hops() {
        assert_eq!(client("10.0.0.0/8", "10.0.0.1", &["10.0.0.3, 10.0.0.2"]), ip("10.0.0.3"));
        let long = vec!["10.0.0.2"; MAX_HOPS].join(",");
        assert_eq!(client("10.0.0.0/8", "10.0.0.1", &["198.51.100.7", &long]), ip("10.0.0.2"));
    }

    #[test]
    fn trusted_proxies_are_addresses_or_networks() {
        for good in ["10.0.0.1", "10.0.0.0/8", "10.1.2.3/8", "::1, 127.0.0.0/8", "fd00::/8"] {
            assert!(TrustedProxies::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ",", "10.0.0.0/33", "10.0.0", "localhost", "private", "10.0.0.1:80", "*", "10.0.0.1,"]
        {
            assert_eq!(TrustedProxies::parse(bad).err(), Some(InvalidProxies), "{bad:?}");
        }
    }
}
