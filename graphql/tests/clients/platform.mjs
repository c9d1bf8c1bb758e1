// The running platform, as whoever started us says it: an empty one with commands and GraphQL.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

export const URL = process.env.TRIBUTARY_URL;
assert.ok(URL, 'TRIBUTARY_URL says where the platform is, such as http://127.0.0.1:8080');

export const GRAPHQL = `${URL}/graphql`;

/// The later of each source.
function merge(one, two) {
  const points = new Map();
  for (const point of [one, two].filter(Boolean).flatMap((token) => token.split(','))) {
    const [source, , position] = point.split(':');
    const held = points.get(source);
    if (!held || Number(held.split(':')[2]) < Number(position)) points.set(source, point);
  }
  return [...points.values()].join(',');
}

/// A command that is taken: its answer and token.
export async function command(path, body, token = '') {
  const headers = { 'content-type': 'application/json', 'idempotency-key': randomUUID() };
  if (token) Object.assign(headers, { 'consistency-token': token, 'consistency-wait': '20s' });
  const answer = await fetch(`${URL}${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
  const text = await answer.text();
  assert.ok(answer.ok, `${path} answered ${answer.status}: ${text}`);
  return { ...JSON.parse(text), token: merge(token, answer.headers.get('consistency-token')) };
}

/// A customer and a product to order, and the token that covers them.
export async function shop() {
  const user = await command('/users', { name: 'Ada Lovelace', email: `${randomUUID()}@example.com` });
  const unit_price = { amount_minor: 1250, currency: 'EUR' };
  const product = await command('/products', { sku: randomUUID(), name: 'River map', unit_price }, user.token);
  await command(`/stock/${product.id}/receive`, { quantity: 1000 });
  return { customerId: user.id, productId: product.id, token: product.token };
}

/// An order of a shop's customer.
export function order({ customerId, productId, token }, quantity = 2) {
  return command('/orders', { customer_id: customerId, lines: [{ product_id: productId, quantity }] }, token);
}

/// Waits until it is so.
export async function until(what, condition, seconds = 20) {
  const ends = Date.now() + seconds * 1000;
  for (;;) {
    const found = await condition();
    if (found) return found;
    assert.ok(Date.now() < ends, `still not ${what} after ${seconds} s`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
