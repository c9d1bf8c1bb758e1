// The audit of GraphQL over HTTP that its working group publishes: every MUST, every SHOULD, and every MAY as well.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { serverAudits } from 'graphql-http';

import { GRAPHQL } from './platform.mjs';

const audits = serverAudits({ url: GRAPHQL, fetchFn: fetch });

test('the audit has its rules', () => assert.ok(audits.length >= 61, `${audits.length} rules`));

for (const audit of audits) {
  test(`${audit.name} (${audit.id})`, async () => {
    const { status, reason } = await audit.fn();
    assert.equal(status, 'ok', reason);
  });
}
