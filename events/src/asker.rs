//! Whose share of a bound something counts against: a principal's, or an address's where nobody has shown a token.

use core::net::{IpAddr, Ipv6Addr};

use crate::{envelope::Name, principal::Principal};

/// Who is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Asker {
    Principal(Name),
    /// As [`Self::at`] makes it.
    Address(IpAddr),
    /// A connection that has no address: a test's.
    Unknown,
}

impl Asker {
    /// Who has shown a token counts by their name, wherever they come from.
    pub fn of(principal: &Principal, address: Option<IpAddr>) -> Self {
        if *principal == Principal::anonymous() || *principal == Principal::nobody() {
            return Self::at(address);
        }
        Self::Principal(principal.name().clone())
    }

    /// Whoever asks from there. Of IPv6 a network of 64 bits counts as one: whoever has one address has all of them.
    pub fn at(address: Option<IpAddr>) -> Self {
        match address.map(|address| address.to_canonical()) {
            None => Self::Unknown,
            Some(IpAddr::V6(address)) => {
                Self::Address(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into())
            }
            Some(address) => Self::Address(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_token_counts_by_address() {
        let address = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(Asker::of(&Principal::nobody(), Some(address)), Asker::Address(address));
        let at = |text: &str| Asker::at(Some(text.parse().expect("an address")));
        assert_eq!(at("2001:db8:1:2::3"), at("2001:db8:1:2:ffff:ffff:ffff:ffff"), "one network");
        assert_ne!(at("2001:db8:1:2::3"), at("2001:db8:1:3::3"));
        assert_eq!((at("::ffff:10.0.0.1"), at("10.0.0.2") == at("10.0.0.1")), (Asker::Address(address), false));
        let ana = Principal::try_new("ana", None, []).expect("a name");
        assert_eq!(Asker::of(&ana, Some(address)), Asker::Principal("ana".into()));
    }
}
