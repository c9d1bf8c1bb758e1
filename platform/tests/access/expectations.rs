//! Who may see what. A field that is not here fails the test: whoever adds one says here who may see it.

/// From most to fewest. Everybody = everybody whose token has the scope `query`; without one nobody sees anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sees {
    /// It is nobody's own.
    Everybody,
    /// Staff, and the customer whose it is.
    Own,
    Staff,
}
use Sees::{Everybody, Own, Staff};

/// A field of the query: who sees it, and how it is asked for. One that answers several things comes several times.
pub struct Root {
    pub field: &'static str,
    pub sees: Sees,
    pub asks: &'static [Ask],
}

/// How to ask. `{ana}`, `{a_order}` and the like stand for ids of the story.
pub enum Ask {
    /// For what is Ana's, and for the same of somebody whom there is not: to others the answers must look the same.
    For { anas: &'static str, nobodys: &'static str, is: Option<&'static str> },
    /// For a list: what a customer gets is what staff get who ask for that customer's (`{me}`, `{my_name}`) only.
    List { all: &'static str, of_me: &'static str },
}
use Ask::{For, List};

pub const ROOTS: &[Root] = &[
    Root {
        field: "order",
        sees: Own,
        asks: &[
            For { anas: r#"(id: "{a_order}")"#, nobodys: r#"(id: "{nobody}")"#, is: None },
            For { anas: r#"(id: "{a_declined}")"#, nobodys: r#"(id: "{nobody}")"#, is: None },
            For { anas: r#"(id: "{a_rejected}")"#, nobodys: r#"(id: "{nobody}")"#, is: None },
            For {
                anas: r#"(id: "{a_order}", asOf: "2100-01-01T00:00:00Z")"#,
                nobodys: r#"(id: "{nobody}", asOf: "2100-01-01T00:00:00Z")"#,
                is: None,
            },
        ],
    },
    Root {
        field: "orders",
        sees: Own,
        asks: &[
            List { all: "", of_me: r#"(filter: {customerId: "{me}"})"# },
            List { all: "(first: 1)", of_me: r#"(first: 1, filter: {customerId: "{me}"})"# },
            // a cursor of somebody else's is a place in the list, and tells nothing of who is there
            List {
                all: r#"(first: 2, after: "{a_cursor}")"#,
                of_me: r#"(first: 2, after: "{a_cursor}", filter: {customerId: "{me}"})"#,
            },
            List {
                all: r#"(last: 2, before: "{a_cursor}")"#,
                of_me: r#"(last: 2, before: "{a_cursor}", filter: {customerId: "{me}"})"#,
            },
            List {
                all: "(last: 3, orderBy: {field: UPDATED_AT, direction: ASC})",
                of_me: r#"(last: 3, orderBy: {field: UPDATED_AT, direction: ASC}, filter: {customerId: "{me}"})"#,
            },
            List {
                all: r#"(first: 3, filter: {productId: "{chai}"}, orderBy: {field: TOTAL, direction: DESC})"#,
                of_me: r#"(first: 3, filter: {productId: "{chai}", customerId: "{me}"},
                    orderBy: {field: TOTAL, direction: DESC})"#,
            },
            List {
                all: r#"(first: 3, asOf: "2100-01-01T00:00:00Z")"#,
                of_me: r#"(first: 3, asOf: "2100-01-01T00:00:00Z", filter: {customerId: "{me}"})"#,
            },
            For {
                anas: r#"(filter: {customerId: "{ana}"})"#,
                nobodys: r#"(filter: {customerId: "{nobody}"})"#,
                is: None,
            },
            For {
                anas: r#"(filter: {externalRef: "a-ref-1"})"#,
                nobodys: r#"(filter: {externalRef: "nobody's"})"#,
                is: None,
            },
            For {
                anas: r#"(filter: {externalRef: "a-ref-1"}, asOf: "2100-01-01T00:00:00Z")"#,
                nobodys: r#"(filter: {externalRef: "nobody's"}, asOf: "2100-01-01T00:00:00Z")"#,
                is: None,
            },
        ],
    },
    Root {
        field: "customer",
        sees: Own,
        asks: &[For { anas: r#"(id: "{ana}")"#, nobodys: r#"(id: "{nobody}")"#, is: None }],
    },
    Root {
        field: "customerOverview",
        sees: Own,
        asks: &[For { anas: r#"(id: "{ana}")"#, nobodys: r#"(id: "{nobody}")"#, is: None }],
    },
    Root {
        field: "search",
        sees: Own,
        asks: &[
            List { all: r#"(text: "chai")"#, of_me: r#"(text: "chai {my_name}")"# },
            List {
                all: r#"(text: "chai", last: 2, before: "{a_cursor}")"#,
                of_me: r#"(text: "chai {my_name}", last: 2, before: "{a_cursor}")"#,
            },
            For { anas: r#"(text: "Quetzalcoatl")"#, nobodys: r#"(text: "Nobody")"#, is: None },
            For { anas: r#"(text: "a-ref-1")"#, nobodys: r#"(text: "nobody-ref-1")"#, is: None },
        ],
    },
    Root {
        field: "searchOrders",
        sees: Own,
        asks: &[
            List { all: r#"(text: "chai")"#, of_me: r#"(text: "chai {my_name}")"# },
            For { anas: r#"(text: "Quetzalcoatl")"#, nobodys: r#"(text: "Nobody")"#, is: None },
            For { anas: r#"(text: "a-ref-1")"#, nobodys: r#"(text: "nobody-ref-1")"#, is: None },
        ],
    },
    Root {
        field: "product",
        sees: Everybody,
        asks: &[For { anas: r#"(id: "{chai}")"#, nobodys: r#"(id: "{nobody}")"#, is: None }],
    },
    Root {
        field: "products",
        sees: Everybody,
        asks: &[
            For { anas: "", nobodys: "", is: None },
            For { anas: r#"(last: 1, filter: {skuPrefix: "CH"})"#, nobodys: "", is: None },
        ],
    },
    Root {
        field: "salesByDay",
        sees: Staff,
        asks: &[
            For {
                anas: r#"(from: "{from}", to: "{to}")"#,
                nobodys: r#"(from: "1996-01-01", to: "1996-01-02")"#,
                is: None,
            },
            For {
                anas: r#"(from: "{from}", to: "{to}", currency: "EUR")"#,
                nobodys: r#"(from: "{from}", to: "{to}", currency: "USD")"#,
                is: None,
            },
        ],
    },
    Root {
        field: "topProducts",
        sees: Staff,
        asks: &[For {
            anas: r#"(from: "{from}", to: "{to}", currency: "EUR")"#,
            nobodys: r#"(from: "{from}", to: "{to}", currency: "USD", by: ORDERS)"#,
            is: None,
        }],
    },
    Root {
        field: "productSalesByDay",
        sees: Staff,
        asks: &[For {
            anas: r#"(productId: "{chai}", from: "{from}", to: "{to}")"#,
            nobodys: r#"(productId: "{nobody}", from: "{from}", to: "{to}")"#,
            is: None,
        }],
    },
    Root {
        field: "node",
        sees: Own,
        asks: &[
            For {
                anas: r#"(id: "{node:Order:{a_order}}")"#,
                nobodys: r#"(id: "{node:Order:{nobody}}")"#,
                is: Some("Order"),
            },
            For {
                anas: r#"(id: "{node:Customer:{ana}}")"#,
                nobodys: r#"(id: "{node:Customer:{nobody}}")"#,
                is: Some("Customer"),
            },
        ],
    },
    Root {
        field: "node",
        sees: Everybody,
        asks: &[For {
            anas: r#"(id: "{node:Product:{chai}}")"#,
            nobodys: r#"(id: "{node:Product:{nobody}}")"#,
            is: Some("Product"),
        }],
    },
    Root { field: "projections", sees: Staff, asks: &[For { anas: "", nobodys: "", is: None }] },
];

/// A subscription: who is told, and how it is asked for.
pub struct Subscription {
    pub field: &'static str,
    pub sees: Sees,
    pub anas: &'static str,
    pub nobodys: &'static str,
}

pub const SUBSCRIPTIONS: &[Subscription] = &[
    Subscription { field: "orderChanged", sees: Own, anas: r#"(id: "{a_order}")"#, nobodys: r#"(id: "{nobody}")"# },
    Subscription {
        field: "ordersChanged",
        sees: Own,
        anas: r#"(filter: {customerId: "{ana}"})"#,
        nobodys: r#"(filter: {customerId: "{nobody}"})"#,
    },
    Subscription { field: "projectionProgress", sees: Staff, anas: r#"(name: "order_details")"#, nobodys: "" },
];

/// The fields of every type. Of a way through several, the strictest counts.
pub const FIELDS: &[(&str, Sees, &str)] = &[
    ("Customer", Own, "id customerId name email orders"),
    ("CustomerOverview", Own, "customerId name email totals"),
    ("CustomerTotals", Own, "currency orders cancelledOrders captured refunded spend lastOrderAt"),
    ("DaySales", Staff, "day orders quantity amount returnedQuantity returned"),
    ("FoundOrder", Own, "id orderId externalRef customerId customerName status placedAt total"),
    ("LineReservation", Own, "status quantity available expiresAt updatedAt"),
    // of whatever it is the price
    ("Money", Everybody, "amountMinor currency"),
    ("Order", Own, "id orderId externalRef status placedAt updatedAt confirmedAt shippedAt deliveredAt cancelledAt"),
    (
        "Order",
        Own,
        "cancelReason rejected returnedAt returnReason customer lines total reservation payment shipment timeline",
    ),
    ("OrderChange", Own, "kind cursor orderId node"),
    ("OrderConnection", Own, "edges pageInfo totalCount"),
    ("OrderCustomer", Own, "customerId name email"),
    ("OrderEdge", Own, "cursor node"),
    (
        "OrderLine",
        Own,
        "productId productName quantity unitPrice discountBp total returnedQuantity product reservation",
    ),
    ("OrderPayment", Own, "status authorized captured refunded voided expired declinedReason updatedAt count payments"),
    ("OrderReservation", Own, "status heldQuantity rejectedQuantity shippedQuantity updatedAt"),
    ("OrderShipment", Own, "status carrier tracking dispatchedAt deliveredAt reason updatedAt count shipments"),
    // of whatever it is a page
    ("PageInfo", Everybody, "hasNextPage hasPreviousPage startCursor endCursor"),
    ("Payment", Own, "paymentId status authorized captured refunded voided expired declinedReason failedReason"),
    ("Payment", Own, "requestedAt authorizedAt capturedAt expiresAt updatedAt"),
    ("Product", Everybody, "id productId sku name discontinued"),
    ("ProductConnection", Everybody, "edges pageInfo totalCount"),
    ("ProductEdge", Everybody, "cursor node"),
    ("ProductSales", Staff, "productId product days"),
    ("Projection", Staff, "name version generation state buildingGeneration rows lagEvents lagSeconds sources"),
    ("ProjectionSource", Staff, "source position headPosition lagEvents lagSeconds observedAt parked"),
    ("SalesDay", Staff, "day products quantity amount returnedQuantity returned"),
    ("Shipment", Own, "shipmentId status carrier tracking scheduledAt dispatchedAt deliveredAt reason updatedAt"),
    ("TimelineEntry", Own, "at source position event what reason amount"),
    ("TopProduct", Staff, "productId product orders quantity amount returnedQuantity returned"),
];

/// What nothing of the story has a value for, so that nobody is seen to see it.
pub const NOT_IN_THE_STORY: &[&str] = &[
    "LineReservation.expiresAt",
    "OrderShipment.reason",
    "Payment.failedReason",
    "Projection.buildingGeneration",
    "Shipment.reason",
];

/// The arguments of a field that is not the query's own.
pub fn arguments(field: &str) -> &'static str {
    match field {
        "Customer.orders" => "(first: 20)",
        _ => "",
    }
}

pub fn of_field(field: &str) -> Option<Sees> {
    let (of, name) = field.split_once('.')?;
    let found = FIELDS.iter().find(|(one, _, fields)| *one == of && fields.split(' ').any(|one| one == name));
    found.map(|(_, sees, _)| *sees)
}
