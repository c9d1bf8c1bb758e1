// Sets GraphiQL up: one fetcher to this address, the explorer, and tabs with queries to start from.
'use strict';

(function () {
  // Tabs share these headers' names. An empty token asks for nothing; paste one to read your own write.
  const headers = JSON.stringify({ 'Consistency-Token': '', 'Consistency-Wait': '2s' }, null, 2);

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
# Paste its value into Consistency-Token under Headers
# below and run this query. It waits until the read model
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
    { query: newest, headers },
    { query: one, variables: order, headers },
    { query: carried, variables: order, headers },
    { query: paged, variables: JSON.stringify({ customer: '', after: null }, null, 2), headers },
    { query: own, variables: customer, headers },
    { query: river, headers },
  ];

  const page = React.createElement(GraphiQL, {
    fetcher: GraphiQL.createFetcher({ url: window.location.pathname }),
    plugins: [GraphiQLPluginExplorer.explorerPlugin({ showAttribution: false })],
    defaultTabs: tabs,
    defaultHeaders: headers,
    defaultEditorToolsVisibility: 'headers',
    shouldPersistHeaders: true,
  });
  ReactDOM.createRoot(document.getElementById('graphiql')).render(page);
})();
