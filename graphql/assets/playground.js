// Sets GraphiQL up: a fetcher to this address, the explorer, and tabs with operations to start from.
'use strict';

(function () {
  // What is sent with every request, for all tabs. A tab's own headers count more.
  const fields = [...document.querySelectorAll('#sent input')];
  const sent = () =>
    Object.fromEntries(fields.map((field) => [field.name, field.value.trim()]).filter(([, value]) => value));
  document.getElementById('sent').addEventListener('submit', (event) => event.preventDefault());

  const newest = `# The newest orders, each with its lines. All of it
# comes from one row that six services' events made.
# Press the arrow (or Ctrl-Enter) to run it.
query NewestOrders {
  orders(first: 5) {
    edges {
      cursor
      node {
        orderId
        externalRef
        status
        placedAt
        customer { customerId name email }
        lines {
          productName
          quantity
          unitPrice { amountMinor currency }
          discountBp
          total { amountMinor currency }
        }
        total { amountMinor currency }
      }
    }
    pageInfo { hasNextPage endCursor }
  }
}
`;

  const one = `# One order with its lines. Copy an orderId (or an id)
# from the first tab into the variables below.
query OneOrder($id: ID!) {
  order(id: $id) {
    id
    orderId
    status
    placedAt
    customer { customerId name email }
    lines {
      productId
      productName
      quantity
      unitPrice { amountMinor currency }
      discountBp
      total { amountMinor currency }
      # as the catalog knows it today;
      # name and price above stay as ordered
      product { sku name discontinued }
    }
    total { amountMinor currency }
  }
}
`;

  const carried = `# What became of an order: pieces held or rejected, money
# held, taken and paid back, parcels on their way. Each
# part is another service's word, and null until that one
# has heard of the order (an imported order: for ever).
query WhatBecameOfAnOrder($id: ID!) {
  order(id: $id) {
    status
    placedAt
    confirmedAt
    cancelledAt
    cancelReason
    rejected
    lines {
      productName
      quantity
      returnedQuantity
      reservation { status quantity available expiresAt }
    }
    reservation { status heldQuantity rejectedQuantity shippedQuantity }
    payment {
      status
      authorized { amountMinor currency }
      captured { amountMinor currency }
      refunded { amountMinor currency }
      voided { amountMinor currency }
      declinedReason
    }
    shipment { status carrier tracking dispatchedAt deliveredAt reason }
  }
}
`;

  const paged = `# A customer's orders, ten at a time. For the next page
# put pageInfo.endCursor into the variable "after".
# A filter narrows them:
#   filter: {status: SHIPPED, placedAfter: "2026-01-01T00:00:00Z"}
query OrdersOfACustomer($customer: ID!, $after: String) {
  customer(id: $customer) {
    customerId
    name
    email
    orders(first: 10, after: $after) {
      edges {
        cursor
        node { orderId status placedAt total { amountMinor currency } }
      }
      pageInfo { hasNextPage endCursor }
    }
  }
}
`;

  const own = `# Read your own writes.
#
# Rename a customer with a command, outside of GraphQL:
#
#   curl -i ${window.location.host}/users/<customer id>/rename \\
#     -H 'Content-Type: application/json' \\
#     -d '{"name": "A new name"}'
#
# The answer carries a header such as
#
#   Consistency-Token: users:9f1c2ab34d5e:42:77aa01bc23de
#
# Paste its value into Consistency-Token at the top and
# run this query. It waits until the read model
# has seen the rename (at most Consistency-Wait), so every
# order shows the new name. If that takes longer you get
# the error consistency_timeout and ask again; never an
# older answer. Without a token you get what is there now.
query AfterARename($customer: ID!) {
  orders(first: 10, filter: { customerId: $customer }) {
    edges { node { orderId customer { name email } } }
  }
}
`;

  const live = `# Orders as they change: run it, order something in another
# window, and see it here. First comes a message STARTED;
# each one has a cursor, with which a client that was cut
# off goes on (the argument "after").
#
#   curl ${window.location.origin}/orders \\
#     -H 'Content-Type: application/json' -d '{"customer_id":
#     "<customer id>", "lines": [{"product_id":
#     "<product id>", "quantity": 1}]}'
subscription OrdersAsTheyChange {
  ordersChanged {
    kind
    cursor
    node {
      orderId
      status
      customer { name }
      lines { productName quantity }
      total { amountMinor currency }
    }
  }
}
`;

  const river = `# What feeds the answers: each projection, its live
# generation, and how far behind each source it is.
query Projections {
  projections {
    name
    version
    generation
    state
    sources { source position lagEvents lagSeconds }
  }
}
`;

  const order = JSON.stringify({ id: '' }, null, 2);
  const customer = JSON.stringify({ customer: '' }, null, 2);
  const tabs = [
    { query: newest },
    { query: one, variables: order },
    { query: carried, variables: order },
    { query: paged, variables: JSON.stringify({ customer: '', after: null }, null, 2) },
    { query: own, variables: customer },
    { query: live },
    { query: river },
  ];

  const address = window.location;
  const fetcher = GraphiQL.createFetcher({
    url: address.pathname,
    subscriptionUrl: `${address.protocol === 'https:' ? 'wss:' : 'ws:'}//${address.host}${address.pathname}`,
  });
  const page = React.createElement(GraphiQL, {
    fetcher: (params, options) => fetcher(params, { ...options, headers: { ...sent(), ...options?.headers } }),
    plugins: [GraphiQLPluginExplorer.explorerPlugin({ showAttribution: false })],
    defaultTabs: tabs,
    defaultEditorToolsVisibility: 'variables',
    // one may be a secret
    shouldPersistHeaders: false,
  });
  ReactDOM.createRoot(document.getElementById('graphiql')).render(page);
})();
