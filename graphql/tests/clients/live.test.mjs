// Subscriptions with the clients that speak graphql-transport-ws and event streams: they are told, are cut off, come back
// with a cursor, and have lost nothing and got nothing twice.
import assert from 'node:assert/strict';
import { connect, createServer } from 'node:net';
import { test } from 'node:test';

import { ApolloClient, InMemoryCache, gql } from '@apollo/client/core';
import { GraphQLWsLink } from '@apollo/client/link/subscriptions';
import { createClient as createEventClient } from 'graphql-sse';
import { createClient } from 'graphql-ws';

import { GRAPHQL, URL as PLATFORM, command, order, shop, until } from './platform.mjs';

const socketUrl = (base) => `${base.replace(/^http/, 'ws')}/graphql`;

const CHANGES = `subscription Changes($filter: OrderFilter, $after: String) {
  ordersChanged(filter: $filter, after: $after) { kind cursor orderId node { id orderId status customer { name } } }
}`;

/// A door to the platform that can be slammed: every connection through it ends at once.
async function door() {
  const { hostname, port } = new URL(PLATFORM);
  const open = new Set();
  const server = createServer((from) => {
    const to = connect(Number(port), hostname);
    for (const [one, other] of [[from, to], [to, from]]) {
      open.add(one);
      one.pipe(other);
      one.on('error', () => other.destroy());
      one.on('close', () => (other.destroy(), open.delete(one)));
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const slam = () => open.forEach((socket) => socket.destroy());
  return { url: `http://127.0.0.1:${server.address().port}`, slam, close: () => (slam(), server.close()) };
}

/// Notes what a subscription is told, until it ends.
function listener() {
  const told = [];
  const sink = { next: ({ data, errors }) => told.push(errors ?? data.ordersChanged), error: (error) => told.push({ error }), complete() {} };
  const kinds = (kind) => told.filter((one) => one.kind === kind);
  return { told, sink, kinds };
}

test('graphql-ws asks a query over a socket', async () => {
  const client = createClient({ url: socketUrl(PLATFORM) });
  const here = await shop();
  const placed = await order(here);
  const query = `query One($id: ID!) { order(id: $id) { orderId } }`;
  const extensions = { 'consistency-token': placed.token, 'consistency-wait': '20s' };
  const answers = [];
  for await (const answer of client.iterate({ query, variables: { id: placed.id }, extensions })) answers.push(answer);
  assert.deepEqual(answers.map(({ data }) => data), [{ order: { orderId: placed.id } }]);
  await client.dispose();
});

test('graphql-ws is told what is ordered, is cut off, comes back with its cursor, and misses nothing', async () => {
  const here = await shop();
  const way = await door();
  const { told, sink, kinds } = listener();
  let after = null;
  let connected = 0;
  const client = createClient({
    url: socketUrl(way.url),
    retryAttempts: 10,
    retryWait: () => new Promise((resolve) => setTimeout(resolve, 100)),
    on: { connected: () => (connected += 1) },
  });
  const variables = { filter: { customerId: here.customerId }, get after() { return after; } };
  const keep = { ...sink, next: (answer) => ((after = answer.data.ordersChanged.cursor), sink.next(answer)) };
  const end = client.subscribe({ query: CHANGES, variables }, keep);
  await until('begun', () => kinds('STARTED').length === 1);
  const first = await order(here);
  await until('told of the first', () => told.some(({ node }) => node?.orderId === first.id));
  way.slam();
  const meanwhile = await order(here);
  await until('told of what was ordered meanwhile', () => told.some(({ node }) => node?.orderId === meanwhile.id));
  assert.ok(connected >= 2, 'it came back');
  assert.equal(kinds('STARTED').length, 1, 'with its cursor');
  assert.equal(kinds('RESYNC').length, 0);
  const renamed = await command(`/users/${here.customerId}/rename`, { name: 'Ada King' }, meanwhile.token);
  assert.ok(renamed.token);
  await until('told of the new name', () =>
    [first, meanwhile].every(({ id }) => told.some(({ node }) => node?.orderId === id && node.customer.name === 'Ada King')));
  const cursors = told.map(({ cursor }) => cursor);
  assert.equal(new Set(cursors.map((cursor, n) => `${cursor} ${told[n].orderId}`)).size, cursors.length, 'nothing twice');
  end();
  await client.dispose();
  way.close();
});

test('Apollo Client is told over graphql-ws, and its cache shows it', async () => {
  const here = await shop();
  const placed = await order(here);
  const socket = createClient({ url: socketUrl(PLATFORM), connectionParams: { 'consistency-token': placed.token, 'consistency-wait': '20s' } });
  const apollo = new ApolloClient({ link: new GraphQLWsLink(socket), cache: new InMemoryCache() });
  const query = gql`query One($id: ID!) { order(id: $id) { id customer { name } } }`;
  await apollo.query({ query, variables: { id: placed.id } });
  const told = [];
  const document = gql`subscription One($id: ID!) { orderChanged(id: $id) { kind node { id customer { name } } } }`;
  const subscription = apollo
    .subscribe({ query: document, variables: { id: placed.id } })
    .subscribe(({ data }) => told.push(data.orderChanged));
  await until('begun', () => told.some(({ kind }) => kind === 'STARTED'));
  await command(`/users/${here.customerId}/rename`, { name: 'Ada Byron' }, placed.token);
  const held = () => apollo.readQuery({ query, variables: { id: placed.id } })?.order.customer.name;
  await until('seen in the cache', () => held() === 'Ada Byron');
  subscription.unsubscribe();
  apollo.stop();
  await socket.dispose();
});

test('graphql-sse is told over an event stream', async () => {
  const here = await shop();
  const client = createEventClient({ url: GRAPHQL });
  const { told, sink, kinds } = listener();
  const variables = { filter: { customerId: here.customerId } };
  const end = client.subscribe({ query: CHANGES, variables }, sink);
  await until('begun', () => kinds('STARTED').length === 1);
  const placed = await order(here);
  await until('told', () => told.some(({ node }) => node?.orderId === placed.id));
  end();
  client.dispose();
});
