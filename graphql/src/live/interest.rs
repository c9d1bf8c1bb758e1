//! What a subscriber wants, and what of it they may see.

use events::{
    ids::{CustomerId, OrderId},
    orders::OrderStatus,
};
use read_side::order_details::{ChangesOf, Fits, OrderDetails, OrderFilter};

/// What one subscriber wants to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interest {
    /// A customer, who is told of their own orders only; `None` is staff.
    pub(crate) scope: Option<CustomerId>,
    pub(crate) wanted: Wanted,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Order(OrderId),
    Orders(OrderFilter),
}

/// What was known of an order before it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Before {
    pub(super) customer_id: CustomerId,
    pub(super) status: OrderStatus,
}

impl From<&OrderDetails> for Before {
    fn from(row: &OrderDetails) -> Self {
        Self { customer_id: row.customer_id, status: row.status }
    }
}

/// What a change means to a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Show it as it is now.
    Shown,
    /// Do not show it any more. Whoever did not show it has nothing to do.
    Gone,
    Nothing,
}

impl Interest {
    /// Whose changes can mean something at all.
    pub(super) fn changes_of(&self) -> ChangesOf {
        match &self.wanted {
            Wanted::Order(id) => ChangesOf::Order(*id),
            Wanted::Orders(filter) => filter.customer_id.or(self.scope).map_or(ChangesOf::All, ChangesOf::Customer),
        }
    }

    /// What the change of order `id` means, which is `now` so; `before` is `None` where it is not known.
    pub(super) fn judge(&self, id: OrderId, now: Option<&OrderDetails>, before: Option<Before>) -> Meaning {
        let is_own = |customer_id: CustomerId| self.scope.is_none_or(|own| own == customer_id);
        // to a customer an order is gone only if it was theirs: what never was must not even be heard of
        let was_seen = before.map_or(self.scope.is_none(), |before| is_own(before.customer_id));
        if let Wanted::Order(wanted) = self.wanted
            && wanted != id
        {
            return Meaning::Nothing;
        }
        let Some(row) = now.filter(|row| is_own(row.customer_id)) else {
            return if was_seen { Meaning::Gone } else { Meaning::Nothing };
        };
        let Wanted::Orders(filter) = &self.wanted else { return Meaning::Shown };
        match filter.fits(row) {
            Fits::Now => Meaning::Shown,
            Fits::Never => Meaning::Nothing,
            // told when it ceased to fit
            Fits::Otherwise if before == Some(row.into()) => Meaning::Nothing,
            Fits::Otherwise => Meaning::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use events::money::Currency;
    use uuid::Uuid;

    use super::*;

    const ANA: u128 = 1;
    const EVA: u128 = 2;

    fn customer(n: u128) -> CustomerId {
        CustomerId::from(Uuid::from_u128(n))
    }

    fn id(n: u128) -> OrderId {
        OrderId(Uuid::from_u128(n))
    }

    fn row(owner: u128, status: OrderStatus) -> OrderDetails {
        OrderDetails {
            order_id: id(7),
            external_ref: None,
            customer_id: customer(owner),
            customer_name: None,
            customer_email: None,
            status,
            placed_at_us: 100,
            shipped_at_us: None,
            lines: vec![],
            total_minor: 0,
            currency: Currency::EUR,
            updated_at_us: 100,
            confirmed_at_us: None,
            cancelled_at_us: None,
            cancel_reason: None,
            rejected: false,
            delivered_at_us: None,
            returned_at_us: None,
            return_reason: None,
            reservation: None,
            payment: None,
            shipment: None,
        }
    }

    #[track_caller]
    fn check(interest: &Interest, now: Option<&OrderDetails>, before: Option<(u128, OrderStatus)>, meaning: Meaning) {
        let before = before.map(|(owner, status)| Before { customer_id: customer(owner), status });
        assert_eq!(interest.judge(id(7), now, before), meaning, "{interest:?} {before:?}");
    }

    fn one(scope: Option<u128>, order: u128) -> Interest {
        Interest { scope: scope.map(customer), wanted: Wanted::Order(id(order)) }
    }

    fn pending(scope: Option<u128>) -> Interest {
        let filter = OrderFilter { status: Some(OrderStatus::Pending), ..OrderFilter::default() };
        Interest { scope: scope.map(customer), wanted: Wanted::Orders(filter) }
    }

    #[test]
    fn a_customer_is_told_of_their_own_orders_and_hears_nothing_of_others() {
        let (pending_of_ana, of_eva) = (row(ANA, OrderStatus::Pending), row(EVA, OrderStatus::Pending));
        check(&one(Some(ANA), 7), Some(&pending_of_ana), None, Meaning::Shown);
        check(&one(Some(ANA), 7), Some(&of_eva), None, Meaning::Nothing);
        check(&one(Some(ANA), 7), Some(&of_eva), Some((EVA, OrderStatus::Pending)), Meaning::Nothing);
        check(&one(Some(ANA), 7), None, None, Meaning::Nothing);
        check(&pending(Some(ANA)), Some(&of_eva), None, Meaning::Nothing);
        check(&pending(None), Some(&of_eva), None, Meaning::Shown);
        check(&one(None, 8), Some(&of_eva), None, Meaning::Nothing);
    }

    #[test]
    fn what_one_could_see_and_cannot_any_more_is_gone() {
        check(
            &one(Some(ANA), 7),
            Some(&row(EVA, OrderStatus::Pending)),
            Some((ANA, OrderStatus::Pending)),
            Meaning::Gone,
        );
        check(&one(Some(ANA), 7), None, Some((ANA, OrderStatus::Pending)), Meaning::Gone);
        check(&one(None, 7), None, None, Meaning::Gone);
    }

    #[test]
    fn what_ceases_to_fit_is_gone_once() {
        let confirmed = row(ANA, OrderStatus::Confirmed);
        check(&pending(None), Some(&confirmed), Some((ANA, OrderStatus::Pending)), Meaning::Gone);
        check(&pending(None), Some(&confirmed), Some((ANA, OrderStatus::Confirmed)), Meaning::Nothing);
        // who does not know what was before says it once too often rather than not
        check(&pending(None), Some(&confirmed), None, Meaning::Gone);
    }

    #[test]
    fn what_can_never_fit_is_not_told() {
        let filter = OrderFilter { placed_after_us: Some(101), ..OrderFilter::default() };
        let interest = Interest { scope: None, wanted: Wanted::Orders(filter) };
        check(&interest, Some(&row(ANA, OrderStatus::Pending)), None, Meaning::Nothing);
    }
}
