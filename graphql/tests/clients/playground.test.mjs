// The playground in a real browser: it loads from its own address alone, runs an example, and shows a change as it happens.
// With SCREENSHOT = a file name, it leaves a picture there.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import puppeteer from 'puppeteer-core';

import { GRAPHQL, URL as PLATFORM, command, order, shop, until } from './platform.mjs';

const EXAMPLES = 7;

let browser;
let page;
const requests = [];
const complaints = [];

before(async () => {
  browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    // as root, and in containers, Chromium's own sandbox cannot be had; the page is ours
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
  });
  page = await browser.newPage();
  await page.setViewport({ width: 1440, height: 860 });
  page.on('request', (request) => requests.push(request));
  page.on('console', (message) => ['error', 'warn'].includes(message.type()) && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(error.message));
});

after(() => browser?.close());

/// The text of the answer that is shown.
const shown = () => page.evaluate(() => document.querySelector('.result-window .CodeMirror')?.CodeMirror.getValue() ?? '');

/// The answer, once it is one of those that are wanted.
function answer(what, is) {
  return until(what, async () => {
    const text = await shown();
    try {
      const value = JSON.parse(text);
      return is(value) && value;
    } catch {
      // half of it, or none yet
      return false;
    }
  });
}

/// Goes to the tab of an example, whose name is its operation's.
async function open(tab) {
  await until(`a tab ${tab}`, () =>
    page.evaluate((name) => {
      const found = [...document.querySelectorAll('.graphiql-tab-button')].find((one) => one.textContent === name);
      // it may lie outside of what is seen
      found?.click();
      const editor = document.querySelector('.graphiql-query-editor .CodeMirror')?.CodeMirror;
      return new RegExp(`^(query|subscription) ${name}\\b`, 'm').test(editor?.getValue() ?? '');
    }, tab),
  );
  // it reads the operation's name a moment after the text, and would ask for the last tab's till then
  await new Promise((resolve) => setTimeout(resolve, 1000));
}

const run = () => page.click('.graphiql-execute-button');

test('the page loads from its own address alone, without a complaint', async () => {
  await page.goto(GRAPHQL, { waitUntil: 'networkidle0' });
  const elsewhere = requests.map((request) => request.url()).filter((url) => !url.startsWith(`${PLATFORM}/`) && !url.startsWith('data:'));
  assert.deepEqual(elsewhere, []);
  assert.deepEqual(complaints, []);
  const tabs = await page.$$eval('.graphiql-tab-button', (all) => all.map((one) => one.textContent));
  assert.equal(tabs.length, EXAMPLES, tabs.join(', '));
});

test('an example shows data', async () => {
  await order(await shop());
  await open('NewestOrders');
  await run();
  const { data } = await answer('data', ({ data }) => data?.orders.edges.length > 0);
  assert.ok(data.orders.edges[0].node.lines[0].unitPrice.amountMinor > 0);
  await page.click('[aria-label="Show GraphiQL Explorer"]');
  await page.waitForSelector('.graphiql-explorer-root');
  if (process.env.SCREENSHOT) {
    await until('drawn', () => page.evaluate(() => document.fonts.status === 'loaded'));
    await page.screenshot({ path: process.env.SCREENSHOT, captureBeyondViewport: false });
  }
});

test('the token in the field at the top is sent, and waited for', async () => {
  const { customerId, token } = await shop();
  const renamed = await command(`/users/${customerId}/rename`, { name: 'Ada King' }, token);
  await page.type('#sent [name=Consistency-Token]', renamed.token);
  await page.type('#sent [name=Consistency-Wait]', '20s');
  const sent = requests.length;
  await open('Projections');
  await run();
  await answer('data', ({ data }) => data?.projections?.length > 0);
  const headers = requests.slice(sent).find((request) => request.method() === 'POST').headers();
  assert.equal(headers['consistency-token'], renamed.token);
  assert.equal(headers['consistency-wait'], '20s');
});

test('a subscription shows a change as it happens', async () => {
  const here = await shop();
  await page.$eval('#sent [name=Consistency-Token]', (field) => (field.value = ''));
  await open('OrdersAsTheyChange');
  await run();
  await answer('STARTED', ({ data }) => data?.ordersChanged.kind === 'STARTED');
  const placed = await order(here);
  const { data } = await answer('the change', ({ data }) => data?.ordersChanged.node?.orderId === placed.id);
  assert.equal(data.ordersChanged.node.lines[0].productName, 'River map');
});

test('every example is valid for the schema that is served', async () => {
  const { buildClientSchema, getIntrospectionQuery, parse, validate } = await import('graphql');
  const body = JSON.stringify({ query: getIntrospectionQuery() });
  const answer = await fetch(GRAPHQL, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  const schema = buildClientSchema((await answer.json()).data);
  const tabs = await page.evaluate(() => JSON.parse(localStorage.getItem('graphiql:tabState')).tabs.map((tab) => tab.query));
  assert.equal(tabs.length, EXAMPLES);
  for (const query of tabs) assert.deepEqual(validate(schema, parse(query)).map(String), [], query);
});
