// PostGraphile 5 over the tables of one database, as its documentation sets it up, on Node's own HTTP server. Prints its
// address, and ends with its owner: when standard input ends.
import { createServer } from 'node:http';

import { postgraphile } from 'postgraphile';
import { makePgService } from 'postgraphile/adaptors/pg';
import { grafserv } from 'postgraphile/grafserv/node';
import { PostGraphileAmberPreset } from 'postgraphile/presets/amber';

const [url, connections] = process.argv.slice(2);
const pgService = makePgService({ connectionString: url, schemas: ['public'], poolConfig: { max: Number(connections) } });
const instance = postgraphile({
  extends: [PostGraphileAmberPreset],
  pgServices: [pgService],
  grafserv: { graphiql: false, watch: false },
  grafast: { explain: false },
});
const server = createServer();
server.on('error', (error) => {
  console.error(error);
  process.exit(1);
});
await instance.createServ(grafserv).addTo(server);
server.listen(0, '127.0.0.1', () => console.log(`127.0.0.1:${server.address().port}`));

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
