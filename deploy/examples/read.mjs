// Reads the events of a resource and prints one line for each. Needs: npm install ioredis
//
//   node read.mjs redis://127.0.0.1:6399/0 default orders            events as they come
//   node read.mjs redis://127.0.0.1:6399/0 default orders --once     what is there, then end
//
// It keeps its place in memory only. A service keeps the id of the last event that it has dealt with, or
// reads through a consumer group (XREADGROUP, XACK), where Redis keeps the place.
import Redis from "ioredis";

const [url = "redis://127.0.0.1:6399/0", account = "default", resource = "orders", mode] = process.argv.slice(2);
const stream = `ordersync:{${account}}:stream:${resource}`;
const redis = new Redis(url);

let last = "0"; // "0" is the very beginning; "$" would be only what comes from now on
for (;;) {
  const answer = await redis.xread("COUNT", 100, ...(mode === "--once" ? [] : ["BLOCK", 5000]), "STREAMS", stream, last);
  if (answer === null) {
    if (mode === "--once") break;
    continue;
  }
  for (const [id, flat] of answer[0][1]) {
    const event = {};
    for (let i = 0; i < flat.length; i += 2) event[flat[i]] = flat[i + 1];
    const order = JSON.parse(event.data); // the record as OrderMesh served it
    console.log(JSON.stringify({ entry: id, fields: Object.keys(event), type: event.type, id: event.id, subject: order.id }));
    last = id;
  }
}
redis.disconnect();
