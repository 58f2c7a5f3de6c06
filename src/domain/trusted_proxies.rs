//! Who is at the other end, by address: what the limits on strangers count by.
//!
//! Behind a proxy the other end of the connection is the proxy, and who sent the request stands in `X-Forwarded-For`,
//! which anybody can write too. So the field is read only from proxies that the operator trusts, from its right end, where
//! each proxy adds whom it heard the request from, and no further than the first who is not trusted. The standard's own
//! field, `Forwarded` (RFC 7239), is not read: hardly a proxy writes it, those that do not would pass on what a client
//! wrote there, and reading both would let a client choose.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use super::client_address::ClientAddress;

/// Proxies that are looked behind: more than stand before anything. It bounds the work, not the length of the field.
const HOPS: usize = 16;

/// The proxies whose word is taken for who sent a request.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Arc<[IpNet]>);

/// Not a list of networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("has an item that is neither an address nor a network such as `10.0.0.0/8`")]
pub struct InvalidProxies;

impl TrustedProxies {
    /// Reads addresses and networks, with commas.
    pub fn parse(text: &str) -> Result<Self, InvalidProxies> {
        let networks = text.split(',').map(|item| network(item.trim()).ok_or(InvalidProxies));
        networks.collect::<Result<_, _>>().map(Self)
    }

    /// The client that sent a request: `peer` is the other end of its connection, `forwarded` are its `X-Forwarded-For`
    /// fields in their order.
    pub fn client_of<'a>(
        &self,
        peer: IpAddr,
        forwarded: impl DoubleEndedIterator<Item = &'a [u8]>,
    ) -> ClientAddress {
        self.address_of(peer, forwarded).into()
    }

    fn address_of<'a>(&self, peer: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'a [u8]>) -> IpAddr {
        // Several fields are one list (RFC 9110, section 5.3).
        let items = forwarded.rev().flat_map(|field| field.rsplit(|byte| *byte == b','));
        let mut client = peer.to_canonical();
        for item in items.take(HOPS) {
            if !self.trusts(client) {
                break;
            }
            // What is not an address was written by nobody who is trusted: its writer is the last who is known.
            let Some(address) = std::str::from_utf8(item).ok().and_then(address) else { break };
            client = address;
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// A network, or one address as the network that it is.
fn network(text: &str) -> Option<IpNet> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
    Some(network.trunc())
}

/// An address as proxies write it, some of them with the port.
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

    /// Who the client is, of a request from the peer with these fields.
    fn client(trusted: &str, peer: &str, fields: &[&str]) -> IpAddr {
        let proxies =
            if trusted.is_empty() { Ok(TrustedProxies::default()) } else { TrustedProxies::parse(trusted) };
        proxies.expect("proxies").address_of(ip(peer), fields.iter().map(|field| field.as_bytes()))
    }

    #[test]
    fn without_trusted_proxies_the_client_is_the_peer() {
        assert_eq!(client("", "192.0.2.1", &["198.51.100.7"]), ip("192.0.2.1"));
        assert_eq!(client("10.0.0.0/8", "192.0.2.1", &["198.51.100.7"]), ip("192.0.2.1"));
    }

    #[test]
    fn a_trusted_proxy_is_looked_behind_and_what_the_client_wrote_is_not_believed() {
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
    fn what_is_no_address_leaves_the_last_who_is_known() {
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
        let written_by_the_client = "1.2.3.4, \u{e4}, 10.2.2.2";
        assert_eq!(client("10.0.0.0/8", "10.0.0.1", &[written_by_the_client]), ip("10.2.2.2"));
    }

    #[test]
    fn a_chain_of_trusted_proxies_has_an_end() {
        assert_eq!(client("10.0.0.0/8", "10.0.0.1", &["10.0.0.3, 10.0.0.2"]), ip("10.0.0.3"));
        let long = vec!["10.0.0.2"; HOPS].join(",");
        assert_eq!(client("10.0.0.0/8", "10.0.0.1", &["198.51.100.7", &long]), ip("10.0.0.2"));
    }

    #[test]
    fn proxies_are_addresses_and_networks() {
        for good in ["10.0.0.1", "10.0.0.0/8", "10.1.2.3/8", "::1, 127.0.0.0/8", "fd00::/8"] {
            assert!(TrustedProxies::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ",", "10.0.0.0/33", "10.0.0", "localhost", "private", "10.0.0.1:80", "*", "10.0.0.1,"]
        {
            assert_eq!(TrustedProxies::parse(bad).err(), Some(InvalidProxies), "{bad:?}");
        }
    }
}
