// The rules that Relay has for a schema, over the schema as it is printed, and as it is served.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import graphql from '@graphql-eslint/eslint-plugin';
import { Linter } from 'eslint';
import { buildClientSchema, buildSchema, findBreakingChanges, getIntrospectionQuery, validateSchema } from 'graphql';

import { GRAPHQL } from './platform.mjs';

const printed = readFileSync(process.env.TRIBUTARY_SCHEMA, 'utf8');

function lint(text) {
  const config = {
    files: ['**/*.graphql'],
    languageOptions: { parser: graphql.parser, parserOptions: { graphQLConfig: { schema: text } } },
    plugins: { '@graphql-eslint': graphql },
    rules: {
      ...graphql.configs['flat/schema-relay'].rules,
      // a plain list is one that is never paged: the lines of an order, the days of a stretch
      '@graphql-eslint/relay-edge-types': ['error', { listTypeCanWrapOnlyEdgeType: false }],
      '@graphql-eslint/require-description': ['error', { types: true, FieldDefinition: true, EnumValueDefinition: true }],
    },
  };
  return new Linter().verify(text, config, { filename: 'schema.graphql' });
}

test('the printed schema keeps the rules of Relay', () => {
  const found = lint(printed).map(({ line, ruleId, message }) => `${line}: ${ruleId}: ${message}`);
  assert.deepEqual(found, []);
});

test('the rules are looked at: a connection without its pageInfo is found', () => {
  const broken = lint('"""a""" type Query { "a" orders: OrderConnection } "a" type OrderConnection { "a" edges: [String] }');
  assert.ok(broken.some(({ ruleId }) => ruleId === '@graphql-eslint/relay-connection-types'), JSON.stringify(broken));
});

test('the schema that is served is the printed one, and valid', async () => {
  const query = getIntrospectionQuery();
  const answer = await fetch(GRAPHQL, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query }),
  });
  const served = buildClientSchema((await answer.json()).data);
  assert.deepEqual(validateSchema(served), []);
  const written = buildSchema(printed);
  // what directives of the language may stand on is the library's word, not the schema's
  const between = (one, other) => findBreakingChanges(one, other).filter(({ type }) => !type.startsWith('DIRECTIVE_'));
  assert.deepEqual(between(written, served), []);
  assert.deepEqual(between(served, written), []);
});
