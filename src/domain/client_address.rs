//! The address that limits on unauthenticated traffic count by.

use std::net::{IpAddr, Ipv6Addr};

/// A client's address: an IPv4 address, or the /64 of an IPv6 address. A /64 is the least that a network is given, and one
/// machine can use any address in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ClientAddress {
    /// An IPv4 address, also one that was written as IPv6.
    V4([u8; 4]),
    /// The first four groups of an IPv6 address.
    V6([u16; 4]),
}

impl From<IpAddr> for ClientAddress {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => Self::V6(prefix(address)),
        }
    }
}

fn prefix(address: Ipv6Addr) -> [u16; 4] {
    let [a, b, c, d, ..] = address.segments();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_addresses_of_one_64_are_one_client() {
        let client = |text: &str| ClientAddress::from(text.parse::<IpAddr>().expect("an address"));
        assert_eq!(client("2001:db8:1:2::1"), client("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(client("2001:db8:1:2::1"), client("2001:db8:1:3::1"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        assert_ne!(client("::ffff:192.0.2.1"), client("::ffff:192.0.2.2"));
    }
}
