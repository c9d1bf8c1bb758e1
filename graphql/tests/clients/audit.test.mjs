// The audit of GraphQL over HTTP that its working group publishes: every MUST, and every SHOULD but those that the
// specification has changed since.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { serverAudits } from 'graphql-http';

import { GRAPHQL } from './platform.mjs';

// By the audit's id; docs/graphql-over-http.md has the sentence of the specification.
const CHANGED_SINCE = new Set([
  // SHOULD answer 400 to variables that do not fit: it is 422 now
  '86EE',
]);

const audits = serverAudits({ url: GRAPHQL, fetchFn: fetch });

test('the audit has its rules', () => assert.ok(audits.length >= 61, `${audits.length} rules`));

for (const audit of audits) {
  test(`${audit.name} (${audit.id})`, async () => {
    const { status, reason } = await audit.fn();
    if (CHANGED_SINCE.has(audit.id)) assert.equal(status, 'warn', 'keeps what is not to be kept any more');
    // what a server MAY do, it may leave
    else if (!audit.name.startsWith('MAY')) assert.equal(status, 'ok', reason);
  });
}
