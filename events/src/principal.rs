//! Who asks: one type for commands and queries.
//!
//! A principal is what a token says, or [`Principal::anonymous`] where no authentication is configured. What they may do
//! has two sides: a *scope* opens an operation, and a *customer* sees and changes their own things only.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::{envelope::Name, ids::CustomerId};

/// Names of scopes that are not of one service. A service has three of its own: see [`read_scope`], [`write_scope`] and
/// [`feed_scope`].
pub mod scope {
    /// Orders may be taken over from another system.
    pub const IMPORT: &str = "import";
    /// Every service's log may be followed.
    pub const FEED: &str = "feed";
    /// The platform may be administered.
    pub const ADMIN: &str = "admin";
    /// Read models may be asked.
    pub const QUERY: &str = "query";
    /// For the services of the platform among themselves: opens every service's commands and the state of its aggregates.
    pub const SERVICE: &str = "service";
    /// The platform's state may be watched.
    pub const METRICS: &str = "metrics";
}

/// Opens a service's commands: `orders:write`.
pub fn write_scope(service: &str) -> String {
    format!("{service}:write")
}

/// Opens the state of a service's aggregates: `orders:read`.
pub fn read_scope(service: &str) -> String {
    format!("{service}:read")
}

/// Opens a service's log to a follower: `feed:orders`. Whoever has [`scope::FEED`] may follow all of them.
pub fn feed_scope(service: &str) -> String {
    format!("{}:{service}", scope::FEED)
}

/// Whether a scope is one of [`read_scope`]'s or [`write_scope`]'s.
fn is_of_a_service(scope: &str) -> bool {
    scope.ends_with(":read") || scope.ends_with(":write")
}

/// Whether a scope is one of [`feed_scope`]'s.
fn is_of_a_feed(wanted: &str) -> bool {
    wanted.strip_prefix(scope::FEED).is_some_and(|rest| rest.starts_with(':'))
}

/// The name of whom nobody knows.
const ANONYMOUS: &str = "anonymous";

/// The longest name, in characters: it goes onto every event, and into the index of idempotency keys.
pub const NAME_CHARS_MAX: usize = 64;

/// Who asks, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    name: Name,
    customer: Option<CustomerId>,
    may: May,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum May {
    Everything,
    Scopes(BTreeSet<String>),
}

impl Principal {
    /// Whoever asks where no authentication is configured. They may do everything, so that must be on loopback only.
    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.into(), customer: None, may: May::Everything }
    }

    /// Whoever shows no token where one is asked for. They may do nothing.
    pub fn nobody() -> Self {
        Self { name: ANONYMOUS.into(), customer: None, may: May::Scopes(BTreeSet::new()) }
    }

    /// A service of this process that asks another one: as if it had shown a token with the scope [`scope::SERVICE`].
    pub fn service(name: &'static str) -> Self {
        Self { name: name.into(), customer: None, may: May::Scopes([scope::SERVICE.to_owned()].into()) }
    }

    /// Someone with a token.
    ///
    /// Errors: the name is empty, too long, not printable ASCII without spaces, or that of nobody.
    pub fn try_new(
        name: &str,
        customer: Option<CustomerId>,
        scopes: impl IntoIterator<Item = String>,
    ) -> Result<Self, PrincipalError> {
        let is_plain = name.bytes().all(|byte| byte.is_ascii_graphic());
        if name.is_empty() || name.len() > NAME_CHARS_MAX || !is_plain || name == ANONYMOUS {
            return Err(PrincipalError);
        }
        Ok(Self { name: name.into(), customer, may: May::Scopes(scopes.into_iter().collect()) })
    }

    /// Stable for one person or program: it stands on events and names the keeper of idempotency keys.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The customer they are; `None` for staff and programs, who act for every customer.
    pub fn customer(&self) -> Option<CustomerId> {
        self.customer
    }

    /// Whether a scope is theirs.
    pub fn may(&self, scope: &str) -> bool {
        match &self.may {
            May::Everything => true,
            May::Scopes(scopes) => {
                scopes.contains(scope)
                    || (is_of_a_service(scope) && scopes.contains(scope::SERVICE))
                    || (is_of_a_feed(scope) && scopes.contains(scope::FEED))
            }
        }
    }

    /// Whether they may act for this customer.
    pub fn acts_for(&self, customer: CustomerId) -> bool {
        self.customer.is_none_or(|own| own == customer)
    }
}

/// The name cannot be that of a principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the subject must have 1 to {NAME_CHARS_MAX} printable ASCII characters without spaces, and not be \"{ANONYMOUS}\""
)]
pub struct PrincipalError;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_customer_acts_for_themselves_and_staff_for_everybody() {
        let (ana, eva) = (CustomerId::from(Uuid::from_u128(1)), CustomerId::from(Uuid::from_u128(2)));
        let customer = Principal::try_new("ana", Some(ana), ["orders:write".to_owned()]).expect("a name");
        assert!(customer.acts_for(ana) && !customer.acts_for(eva));
        assert!(customer.may(&write_scope("orders")) && !customer.may(&read_scope("orders")));
        let staff = Principal::try_new("desk-7", None, []).expect("a name");
        assert!(staff.acts_for(ana) && staff.acts_for(eva) && !staff.may(scope::ADMIN));
    }

    #[test]
    fn anonymous_may_everything_and_nobody_nothing() {
        assert!(Principal::anonymous().may(scope::ADMIN));
        assert!(!Principal::nobody().may(scope::QUERY));
    }

    #[test]
    fn a_service_commands_and_reads_the_others_and_administers_nothing() {
        let checkout = Principal::service("checkout");
        assert_eq!((&**checkout.name(), checkout.customer()), ("checkout", None));
        assert!(checkout.may(&write_scope("orders")) && checkout.may(&read_scope("users")));
        for scope in [scope::ADMIN, scope::IMPORT, scope::FEED, &feed_scope("users"), scope::QUERY] {
            assert!(!checkout.may(scope), "{scope}");
        }
        let elsewhere = Principal::try_new("checkout-1", None, [scope::SERVICE.to_owned()]).expect("a name");
        assert!(elsewhere.may(&write_scope("payments")) && !elsewhere.may(scope::ADMIN));
    }

    #[test]
    fn a_follower_reads_the_feed_that_is_named_or_all_of_them() {
        let with = |scope: &str| Principal::try_new("replica-1", None, [scope.to_owned()]).expect("a name");
        let one = with("feed:orders");
        assert!(one.may(&feed_scope("orders")));
        assert!(!one.may(&feed_scope("users")) && !one.may(scope::FEED) && !one.may(&read_scope("orders")));
        let all = with(scope::FEED);
        assert!(all.may(&feed_scope("orders")) && all.may(&feed_scope("users")) && !all.may("feeds:orders"));
    }

    #[test]
    fn a_name_that_would_be_mistaken_is_refused() {
        for wrong in ["", "anonymous", "a b", "a\nb", "é", &"x".repeat(65)] {
            assert_eq!(Principal::try_new(wrong, None, []), Err(PrincipalError), "{wrong:?}");
        }
        assert!(Principal::try_new("auth0|507f1f77bcf86cd799439011", None, []).is_ok());
    }
}
