//! Pieces: of each product, and of each line of an order.

use std::collections::BTreeMap;

use events::{
    ids::{OrderId, ProductId},
    inventory::StockEvent,
};

use super::{Breaches, Law};

#[derive(Debug, Default)]
pub struct Stock {
    items: BTreeMap<ProductId, Item>,
    lines: BTreeMap<(OrderId, u32), Line>,
}

#[derive(Debug, Default)]
struct Item {
    on_hand: i64,
    held: i64,
}

/// What became of the pieces of one line of an order.
#[derive(Debug, Clone, Default)]
pub struct Line {
    reserved: u64,
    held: u64,
    pub shipped: u64,
    released: u64,
    expired: u64,
}

impl Line {
    fn adds_up(&self) -> bool {
        self.reserved == self.held + self.shipped + self.released + self.expired
    }
}

impl Stock {
    pub fn enter(&mut self, event: &StockEvent, breaches: &mut Breaches) {
        match event {
            StockEvent::StockReceived(event) => {
                self.move_on_hand(event.product_id, i64::from(event.quantity), breaches);
            }
            StockEvent::StockAdjusted(event) => self.move_on_hand(event.product_id, event.quantity, breaches),
            StockEvent::StockReserved(event) => {
                let line = self.lines.entry((event.order_id, event.line)).or_default();
                let is_first = line.reserved == 0;
                line.reserved += u64::from(event.quantity);
                line.held += u64::from(event.quantity);
                self.items.entry(event.product_id).or_default().held += i64::from(event.quantity);
                breaches.check(is_first, Law::NothingTwice, event.order_id, || {
                    format!("line {} was reserved again", event.line)
                });
                self.check_item(event.product_id, breaches);
            }
            // nothing is held for it, before or after
            StockEvent::ReservationRejected(event) => {
                self.check_line(event.product_id, event.order_id, event.line, breaches);
            }
            StockEvent::ReservationWithdrawn(event) => {
                self.check_line(event.product_id, event.order_id, event.line, breaches);
            }
            StockEvent::ReservationConfirmed(event) => {
                let held = self.lines.get(&(event.order_id, event.line)).map_or(0, |line| line.held);
                breaches.check(held > 0, Law::ReservedAddsUp, event.order_id, || {
                    format!("line {} was confirmed, and nothing is held for it", event.line)
                });
            }
            StockEvent::ReservationExpired(event) => {
                let line = self.end(event.product_id, event.order_id, event.line);
                line.expired += u64::from(event.quantity);
                self.check_line(event.product_id, event.order_id, event.line, breaches);
            }
            StockEvent::StockReleased(event) => {
                let line = self.end(event.product_id, event.order_id, event.line);
                line.released += u64::from(event.quantity);
                self.check_line(event.product_id, event.order_id, event.line, breaches);
            }
            StockEvent::StockShipped(event) => {
                let line = self.end(event.product_id, event.order_id, event.line);
                line.shipped += u64::from(event.quantity);
                self.move_on_hand(event.product_id, -i64::from(event.quantity), breaches);
                self.check_line(event.product_id, event.order_id, event.line, breaches);
            }
        }
    }

    fn move_on_hand(&mut self, product_id: ProductId, quantity: i64, breaches: &mut Breaches) {
        self.items.entry(product_id).or_default().on_hand += quantity;
        self.check_item(product_id, breaches);
    }

    /// Whatever its end says, a line's hold is over with it: if the quantities differ, the sums do.
    fn end(&mut self, product_id: ProductId, order_id: OrderId, line: u32) -> &mut Line {
        let line = self.lines.entry((order_id, line)).or_default();
        let held = std::mem::take(&mut line.held);
        // no line has so many pieces
        self.items.entry(product_id).or_default().held -= i64::try_from(held).unwrap_or(i64::MAX);
        line
    }

    fn check_item(&self, product_id: ProductId, breaches: &mut Breaches) {
        let Some(Item { on_hand, held }) = self.items.get(&product_id) else { return };
        breaches.check(*on_hand >= *held && *held >= 0, Law::StockIsThere, product_id, || {
            format!("{on_hand} on hand, {held} held")
        });
    }

    fn check_line(&self, product_id: ProductId, order_id: OrderId, line: u32, breaches: &mut Breaches) {
        let known = self.lines.get(&(order_id, line)).cloned().unwrap_or_default();
        breaches.check(known.adds_up(), Law::ReservedAddsUp, order_id, || format!("line {line}: {known:?}"));
        self.check_item(product_id, breaches);
    }

    pub fn at_rest(&self, breaches: &mut Breaches) {
        for ((order_id, n), line) in &self.lines {
            breaches.check(line.adds_up(), Law::ReservedAddsUp, order_id, || format!("line {n}: {line:?}"));
            breaches.check(line.held == 0, Law::NothingIsHeld, order_id, || format!("line {n}: {line:?}"));
        }
    }

    pub fn lines_of(&self, order_id: OrderId) -> impl Iterator<Item = (u32, &Line)> {
        let lines = self.lines.range((order_id, 0)..=(order_id, u32::MAX));
        lines.map(|((_, n), line)| (*n, line))
    }

    pub fn shipped(&self, order_id: OrderId, line: u32) -> u64 {
        self.lines.get(&(order_id, line)).map_or(0, |line| line.shipped)
    }

    pub fn level(&self, product_id: ProductId) -> (i64, i64) {
        self.items.get(&product_id).map_or((0, 0), |item| (item.on_hand, item.held))
    }
}
