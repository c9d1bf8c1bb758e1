//! What of an order comes back, and when.
//!
//! Once it was shipped: in parts, never more than was ordered. Before that, from its confirmation on, as a whole: nothing
//! has left yet, and an order of which a part is wanted no more is another order.

use std::collections::BTreeMap;

use events::{
    ids::ProductId,
    orders::{ORDER_LINES_MAX, OrderEvent, OrderReturned, OrderStatus, ReturnedLine},
};

use super::{KnownOrder, LineRef, OrderError, repeated};

impl KnownOrder {
    /// `None` = everything that is left.
    pub(super) fn take_back(
        &self,
        lines: Option<Vec<ReturnedLine>>,
        reason: Option<String>,
    ) -> Result<Vec<OrderEvent>, OrderError> {
        let refused = || OrderError::NotReturnable(self.order_id, self.status);
        match self.status {
            OrderStatus::Confirmed | OrderStatus::Shipped | OrderStatus::Delivered => {}
            OrderStatus::Returned if lines.is_none() => return Ok(vec![]),
            OrderStatus::Pending | OrderStatus::Cancelled | OrderStatus::Returned => return Err(refused()),
        }
        let mut left: BTreeMap<ProductId, u32> =
            self.lines.iter().map(|line| (line.product_id, line.quantity - self.returned(line.product_id))).collect();
        let lines = match lines {
            Some(lines) => lines,
            None => {
                let with_customer = left.iter().filter(|(_, quantity)| **quantity > 0);
                with_customer.map(|(&product_id, &quantity)| ReturnedLine { product_id, quantity }).collect()
            }
        };
        self.check_return(&lines, &left)?;
        for line in &lines {
            left.entry(line.product_id).and_modify(|left| *left -= line.quantity);
        }
        let complete = left.values().all(|quantity| *quantity == 0);
        if self.status == OrderStatus::Confirmed && !complete {
            return Err(refused());
        }
        let (order_id, customer_id) = (self.order_id, self.customer_id);
        Ok(vec![OrderReturned { order_id, customer_id, lines, complete, reason }.into()])
    }

    fn check_return(&self, lines: &[ReturnedLine], left: &BTreeMap<ProductId, u32>) -> Result<(), OrderError> {
        if !(1..=ORDER_LINES_MAX).contains(&lines.len()) {
            return Err(OrderError::LineCount { lines: lines.len() });
        }
        let repeated = repeated(lines.iter().map(|line| line.product_id));
        if !repeated.is_empty() {
            return Err(OrderError::ProductsRepeated(repeated));
        }
        let stranger =
            |(n, line): (usize, &ReturnedLine)| (!left.contains_key(&line.product_id)).then_some((n, line.product_id));
        let strangers: Vec<LineRef> = lines.iter().enumerate().filter_map(stranger).collect();
        if !strangers.is_empty() {
            return Err(OrderError::ProductsNotOrdered(strangers));
        }
        for (line, &ReturnedLine { product_id, quantity }) in lines.iter().enumerate() {
            let left = left.get(&product_id).copied().unwrap_or(0);
            if quantity == 0 {
                return Err(OrderError::Quantity { line, quantity });
            }
            if quantity > left {
                let ordered = left + self.returned(product_id);
                return Err(OrderError::ReturnTooLarge { line, product_id, quantity, left, ordered });
            }
        }
        Ok(())
    }

    pub(super) fn returned(&self, product_id: ProductId) -> u32 {
        self.returned.get(&product_id).copied().unwrap_or(0)
    }
}
