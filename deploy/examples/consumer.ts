// Keeps a table of orders up to date, in TypeScript with types that are generated from the schemas. Reads through a group,
// takes over what a consumer that is gone has left, applies each event once, and makes a dead letter of an event that fails
// too often. Several processes with one group and different names share the work. Needs Node 20 or newer:
//
//   npm install redis typescript @types/node json-schema-to-typescript
//   npx json-schema-to-typescript ../schemas/line.1.json > line.ts
//   npx tsc --strict --target es2022 --module nodenext --skipLibCheck consumer.ts
//   node consumer.js redis://127.0.0.1:6379/0 --group warehouse --name worker-1
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { gunzipSync } from "node:zlib";
import { createClient, RESP_TYPES } from "redis";
import type { OrderEvent } from "./line";

const { values, positionals: [url] } = parseArgs({
  allowPositionals: true,
  options: {
    account: { type: "string", default: "default" },
    prefix: { type: "string", default: "ordersync:" }, // ORDERSYNC_REDIS__PREFIX of the worker
    group: { type: "string", default: "warehouse" },
    name: { type: "string", default: "worker-1" }, // its own, and the same after a restart
    table: { type: "string", default: "warehouse:orders" },
    "claim-after": { type: "string", default: "60000" }, // ms; more than one event may take
    "max-deliveries": { type: "string", default: "5" },
    refuse: { type: "string" }, // fail at orders of this status, to see what happens then
    once: { type: "boolean", default: false },
  },
});
const stream = `${values.prefix}{${values.account}}:stream:orders`;
const dead = `${values.prefix}{${values.account}}:dead:orders`;
const claimAfter = Number(values["claim-after"]);
const script = (name: string) => readFileSync(join(__dirname, name), "utf8");
const [UPSERT, DEAD_LETTER] = [script("upsert.lua"), script("dead-letter.lua")];

type Fields = Record<string, Buffer>;
const text = createClient({ url }); // connects again by itself
const redis = text.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer }); // data may be compressed: bytes
text.on("error", (error: Error) => console.error(`redis: ${error.message}`));

async function createGroup(): Promise<void> {
  try {
    await text.xGroupCreate(stream, values.group, "0", { MKSTREAM: true }); // "0": the oldest event that is kept
  } catch (error) {
    if (!String(error).includes("BUSYGROUP")) throw error; // the group is there already
  }
}

// The event with typed data: what `ordersync consume` writes as a line.
function eventOf(entry: string, fields: Fields): OrderEvent {
  const { data, dataencoding, ...rest } = fields;
  const attributes = Object.fromEntries(Object.entries(rest).map(([name, value]) => [name, value.toString()]));
  const bytes = dataencoding?.toString() === "gzip" ? gunzipSync(data) : data;
  return { ...attributes, resource: "orders", entry, data: JSON.parse(bytes.toString()) } as unknown as OrderEvent;
}

// The work on one event. Twice is the same as once: an event that is not newer than its order changes nothing.
async function apply(event: OrderEvent): Promise<void> {
  const order = event.type === "io.ordermesh.order.deleted" ? { id: event.data.id, deleted: true } : event.data;
  if (values.refuse && event.data.status === values.refuse) throw new Error(`status ${values.refuse} is not wanted here`);
  await text.eval(UPSERT, { keys: [values.table], arguments: [event.subject, event.entry, JSON.stringify(order)] });
}

async function handle(entry: string, fields: Fields | null, attempt: number): Promise<void> {
  try {
    if (fields && Object.keys(fields).length) await apply(eventOf(entry, fields)); // else it was removed from the stream
  } catch (error) {
    console.error(`${entry} failed, attempt ${attempt}: ${error}`);
    if (attempt >= Number(values["max-deliveries"])) {
      const words = [values.group, values.name, entry, String(attempt), String(error), new Date().toISOString()];
      await text.eval(DEAD_LETTER, { keys: [stream, dead], arguments: words });
    }
    return; // it stays pending, and is claimed again
  }
  await text.xAck(stream, values.group, entry);
}

// Takes over what nobody has touched for a while: left by a process that is gone, failed here, or replayed.
async function claimIdle(): Promise<void> {
  const idle = await text.xPendingRange(stream, values.group, "-", "+", 100, { IDLE: claimAfter });
  for (const { id, deliveriesCounter } of idle) {
    for (const claimed of await redis.xClaim(stream, values.group, values.name, claimAfter, id)) {
      if (claimed) await handle(id, claimed.message as unknown as Fields, deliveriesCounter + 1);
    }
  }
}

async function main(): Promise<void> {
  await text.connect();
  await createGroup();
  let looked = 0;
  for (;;) {
    try {
      if (Date.now() - looked > claimAfter / 2) {
        looked = Date.now();
        await claimIdle();
      }
      const answer = (await redis.xReadGroup(
        values.group, values.name, { key: stream, id: ">" }, { COUNT: 100, BLOCK: 500 },
      )) as unknown as { messages: { id: Buffer; message: Fields }[] }[] | null;
      const entries = answer?.[0]?.messages ?? [];
      for (const { id, message } of entries) await handle(id.toString(), message, 1);
      if (values.once && !entries.length && !(await text.xPending(stream, values.group)).pending) break;
    } catch (error) {
      if (!/NOGROUP|UNBLOCKED/.test(String(error))) throw error;
      await createGroup(); // Redis has lost the group: it begins again
    }
  }
  await text.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
