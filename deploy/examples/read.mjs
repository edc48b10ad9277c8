// Reads the events of one stream through a consumer group, and acknowledges each when it has been dealt with.
// Several processes with one group and different names share the work. Needs Node 18.3 or newer and ioredis:
//
//   npm install ioredis
//   node read.mjs redis://127.0.0.1:6379/0 'ordersync:{sandbox}:stream:orders'
//
// Options: --group NAME, --consumer NAME (its own, and the same after a restart), --claim-after MS (entries that
// nobody has touched for so long are taken over), --events N (end after N events), --json (whole events).
import { parseArgs } from "node:util";
import { gunzipSync } from "node:zlib";
import Redis from "ioredis";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    group: { type: "string", default: "warehouse" },
    consumer: { type: "string", default: "worker-1" },
    "claim-after": { type: "string", default: "60000" }, // more than one event may take
    events: { type: "string", default: "Infinity" },
    json: { type: "boolean", default: false },
  },
});
const [url, stream] = positionals;
const [limit, claimAfter] = [Number(values.events), Number(values["claim-after"])];
if (positionals.length !== 2 || !(limit > 0) || !(claimAfter > 0)) {
  console.error("usage: node read.mjs URL STREAM [--group G] [--consumer C] [--claim-after MS] [--events N] [--json]");
  process.exit(2);
}

// A socket as well: unix:///path. The password may come from the environment, where other users do not see it.
const redis = new Redis(url, { password: process.env.REDISCLI_AUTH });
redis.on("error", (error) => console.error(`redis: ${error.message}`)); // ioredis connects again by itself

async function createGroup() {
  try {
    await redis.xgroup("CREATE", stream, values.group, "0", "MKSTREAM"); // "0": from the first event that is kept
  } catch (error) {
    if (!error.message.startsWith("BUSYGROUP")) throw error; // the group is there already
  }
}

// The work on one event. If it throws, the program ends and reads the same event again when it starts anew, so
// the same event may come twice: its `id` stays the same.
async function handle(event) {
  const order = JSON.parse(event.data); // the record as OrderMesh served it
  console.log(values.json ? JSON.stringify({ ...event, data: order }) : `${event.type} ${event.subject} ${event.changed}`);
}

// Names and values in turn. Without `dataencoding` the data is as it was served.
function eventOf(flat) {
  const event = {};
  for (let i = 0; i < flat.length; i += 2) event[flat[i].toString()] = flat[i + 1];
  if (event.dataencoding?.toString() === "gzip") event.data = gunzipSync(event.data);
  return Object.fromEntries(Object.entries(event).map(([name, value]) => [name, value.toString()]));
}

// Makes entries ours that a consumer which is gone has left, or that were replayed for the group.
async function claimIdle() {
  let cursor = "0-0";
  do {
    [cursor] = await redis.xautoclaim(
      stream, values.group, values.consumer, claimAfter, cursor, "COUNT", 100, "JUSTID",
    );
  } while (cursor !== "0-0");
}

await createGroup();
let start = "0"; // first what is ours already; ">" is what nobody has taken
let looked = 0;
let handled = 0;
while (handled < limit) {
  let answer;
  try {
    if (start === ">" && Date.now() - looked > Math.min(claimAfter, 5000)) {
      await claimIdle();
      [start, looked] = ["0", Date.now()];
    }
    const count = Math.min(100, limit - handled);
    answer = await redis.xreadgroupBuffer(
      "GROUP", values.group, values.consumer, "COUNT", count, "BLOCK", 1000, "STREAMS", stream, start,
    );
  } catch (error) {
    if (!/NOGROUP|UNBLOCKED/.test(error.message)) throw error;
    console.error(`redis: ${error.message}: Redis has lost the group, which is created again`);
    await createGroup();
    continue;
  }
  const entries = answer?.[0][1] ?? [];
  if (start === "0" && entries.length === 0) start = ">";
  for (const [entry, flat] of entries) {
    if (flat?.length) { // without fields: it was removed from the stream after it had been taken
      await handle(eventOf(flat));
      handled += 1;
    }
    await redis.xack(stream, values.group, entry);
  }
}
await redis.quit();
