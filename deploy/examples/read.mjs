// Reads the events of one stream through a consumer group, and acknowledges each when it has been dealt with.
// Several processes with one group and different names share the work. Needs Node 18.3 or newer and ioredis:
//
//   npm install ioredis
//   node read.mjs redis://127.0.0.1:6399/0 'ordersync:{sandbox}:stream:orders'
//
// Options: --group NAME, --consumer NAME, --events N (end after N events), --json (whole events as JSON lines).
import { parseArgs } from "node:util";
import Redis from "ioredis";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    group: { type: "string", default: "warehouse" },
    consumer: { type: "string", default: "worker-1" },
    events: { type: "string", default: "Infinity" },
    json: { type: "boolean", default: false },
  },
});
const [url, stream] = positionals;
const limit = Number(values.events);
if (positionals.length !== 2 || !(limit > 0)) {
  console.error("usage: node read.mjs URL STREAM [--group G] [--consumer C] [--events N] [--json]");
  process.exit(2);
}

const redis = new Redis(url);
redis.on("error", (error) => console.error(`redis: ${error.message}`)); // ioredis connects again by itself

try {
  await redis.xgroup("CREATE", stream, values.group, "0", "MKSTREAM"); // "0": from the first event that is kept
} catch (error) {
  if (!error.message.startsWith("BUSYGROUP")) throw error; // the group is there already
}

// The work on one event. If it throws, the program ends and reads the same event again when it starts anew, so
// the same event may come twice: its `id` stays the same.
async function handle(event) {
  const order = JSON.parse(event.data); // the record as OrderMesh served it
  console.log(values.json ? JSON.stringify({ ...event, data: order }) : `${event.type} ${event.subject} ${event.changed}`);
}

let start = "0"; // first what this consumer had taken and not finished; ">" is what nobody has taken
let handled = 0;
while (handled < limit) {
  const count = Math.min(100, limit - handled);
  const answer = await redis.xreadgroup(
    "GROUP", values.group, values.consumer, "COUNT", count, "BLOCK", 5000, "STREAMS", stream, start,
  );
  const entries = answer?.[0][1] ?? [];
  if (start === "0" && entries.length === 0) start = ">";
  for (const [entry, flat] of entries) {
    if (flat !== null) { // null: it was removed from the stream after it had been taken
      const event = {};
      for (let i = 0; i < flat.length; i += 2) event[flat[i]] = flat[i + 1];
      await handle(event);
      handled += 1;
    }
    await redis.xack(stream, values.group, entry);
  }
}
await redis.quit();
