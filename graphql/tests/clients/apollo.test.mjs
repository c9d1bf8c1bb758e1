// Apollo Client as an application has it: typed errors, a normalized cache over our global ids, pages, tokens.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ApolloClient, ApolloLink, CombinedGraphQLErrors, HttpLink, InMemoryCache, gql } from '@apollo/client/core';
import { relayStylePagination } from '@apollo/client/utilities';

import { GRAPHQL, command, order, shop } from './platform.mjs';

function client(token = '') {
  const typePolicies = { Query: { fields: { orders: relayStylePagination(['filter']) } } };
  // what an application adds: what it has written last
  const seen = new ApolloLink((operation, forward) => {
    operation.setContext({ headers: token ? { 'consistency-token': token, 'consistency-wait': '20s' } : {} });
    return forward(operation);
  });
  return new ApolloClient({
    link: seen.concat(new HttpLink({ uri: GRAPHQL, fetch })),
    cache: new InMemoryCache({ typePolicies, possibleTypes: { Node: ['Order', 'Customer', 'Product'] } }),
  });
}

const ONE = gql`
  query One($id: ID!) {
    order(id: $id) { id orderId status lines { productName quantity total { amountMinor currency } } }
  }
`;

test('a query with the token of a command sees what the command did', async () => {
  const here = await shop();
  const placed = await order(here);
  const { data } = await client(placed.token).query({ query: ONE, variables: { id: placed.id } });
  assert.equal(data.order.orderId, placed.id);
  assert.deepEqual(data.order.lines[0].total, { __typename: 'Money', amountMinor: 2500, currency: 'EUR' });
});

test('what is asked for by another way is one thing in the cache', async () => {
  const here = await shop();
  const placed = await order(here);
  const apollo = client(placed.token);
  const { data } = await apollo.query({ query: ONE, variables: { id: placed.id } });
  const by = gql`query By($id: ID!) { node(id: $id) { id ... on Order { status placedAt } } }`;
  const node = await apollo.query({ query: by, variables: { id: data.order.id } });
  const held = apollo.cache.extract()[`Order:${data.order.id}`];
  assert.equal(held.placedAt, node.data.node.placedAt);
  assert.equal(held.orderId, placed.id, 'both answers are in one entry');
});

test('pages are put together as Relay has them', async () => {
  const here = await shop();
  let token = here.token;
  for (let n = 0; n < 5; n += 1) token = (await order({ ...here, token })).token;
  const query = gql`
    query Page($filter: OrderFilter, $after: String) {
      orders(first: 2, after: $after, filter: $filter) {
        edges { cursor node { id orderId } }
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
      }
    }
  `;
  const apollo = client(token);
  const filter = { customerId: here.customerId };
  let [page, pages] = [{ hasNextPage: true, endCursor: null }, 0];
  while (page.hasNextPage) {
    const { data } = await apollo.query({
      query,
      variables: { filter, after: page.endCursor },
      // the list in the cache answers otherwise: it does not know that another page was meant
      fetchPolicy: 'network-only',
    });
    page = data.orders.pageInfo;
    assert.ok((pages += 1) <= 3, 'the pages have an end');
  }
  const held = apollo.readQuery({ query, variables: { filter } });
  const ids = held.orders.edges.map((edge) => edge.node.orderId);
  assert.equal(ids.length, 5, ids.join(' '));
  assert.equal(new Set(ids).size, 5, ids.join(' '));
});

test('an error has its code', async () => {
  const asked = client().query({ query: ONE, variables: { id: 'no id' } });
  await assert.rejects(asked, (error) => {
    assert.ok(CombinedGraphQLErrors.is(error), `${error}`);
    assert.equal(error.errors[0].extensions.code, 'validation_failed');
    return true;
  });
});

test('a rename is seen in every answer that shows the customer', async () => {
  const here = await shop();
  const placed = await order(here);
  const renamed = await command(`/users/${here.customerId}/rename`, { name: 'Ada King' }, placed.token);
  const query = gql`query Name($id: ID!) { order(id: $id) { id customer { name } } }`;
  const { data } = await client(renamed.token).query({ query, variables: { id: placed.id } });
  assert.equal(data.order.customer.name, 'Ada King');
});
