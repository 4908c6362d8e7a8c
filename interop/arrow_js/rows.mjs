// Reads a table's rows over plain HTTP with apache-arrow, checks them, and appends them again.
// Usage: node rows.mjs URL TOKEN. Exits with 1, and says why, if anything differs.

import assert from "node:assert/strict";
import { RecordBatchStreamWriter, tableFromIPC, tableFromArrays, tableToIPC } from "apache-arrow";

const [url, token] = process.argv.slice(2);
const headers = { Authorization: `Bearer ${token}` };

async function get(query, more = {}) {
  const reply = await fetch(`${url}?${query}`, { headers: { ...headers, ...more } });
  return reply;
}

// All rows, while they arrive.
const reply = await get("format=arrow");
assert.equal(reply.status, 200);
assert.equal(reply.headers.get("content-type"), "application/vnd.apache.arrow.stream");
const table = await tableFromIPC(reply);
assert.deepEqual(table.schema.fields.map((field) => field.name), ["id", "text", "ratio", "day", "at", "tags", "inner", "ok"]);
assert.equal(table.numRows, 1000);
assert.equal(table.getChild("id").get(999), 999n);
assert.equal(table.getChild("text").get(7), "row 7 äß漢");
assert.equal(table.getChild("text").get(10), null);
assert.equal(table.getChild("ratio").get(3), 1.5);
assert.equal(new Date(table.getChild("day").get(0)).toISOString().slice(0, 10), "2026-01-01");
assert.equal(new Date(table.getChild("at").get(1)).toISOString(), "2026-01-01T00:00:01.000Z");
assert.deepEqual([...table.getChild("tags").get(2)], ["a", "b"]);
assert.equal(table.getChild("inner").get(5).x, 5n);
assert.equal(table.getChild("ok").get(1), false);

// Some columns, a filter, a range of rows.
const some = await tableFromIPC(await get("format=arrow&columns=id,ratio&filter=" + encodeURIComponent("id >= 990")));
assert.deepEqual([some.numCols, some.numRows], [2, 10]);
const part = await get("format=arrow&columns=id", { Range: "rows=100-199" });
assert.equal(part.status, 206);
assert.equal(part.headers.get("content-range"), "rows 100-199/1000");
assert.equal((await tableFromIPC(part)).getChild("id").get(0), 100n);

// Nothing has changed, so nothing is sent.
const again = await get("format=arrow", { "If-None-Match": reply.headers.get("etag") });
assert.equal(again.status, 304);

// JSON lines need no library.
const lines = (await (await get("format=jsonl&columns=id,text&limit=2")).text()).trim().split("\n");
assert.deepEqual(lines.map((line) => JSON.parse(line)), [
  { id: 0, text: "row 0 äß漢" },
  { id: 1, text: "row 1 äß漢" },
]);

async function post(body, key) {
  const reply = await fetch(url, {
    method: "POST",
    headers: { ...headers, "Content-Type": "application/vnd.apache.arrow.stream", "Idempotency-Key": key },
    body,
  });
  return [reply.status, await reply.json()];
}

// What was read goes in again, as a stream, and twice with one key is once.
const stream = tableToIPC(table, "stream");
for (const _ of [1, 2]) {
  const [status, answer] = await post(stream, "all-of-it");
  assert.equal(status, 200, JSON.stringify(answer));
  assert.equal(answer.rows, 1000);
}

// A table made in JavaScript, with columns in another order and of narrower types.
const made = tableFromArrays({ text: ["made", "here"], id: Int32Array.of(2000, 2001) });
const [status, answer] = await post(await RecordBatchStreamWriter.writeAll(made).toUint8Array(), "made");
assert.equal(status, 200, JSON.stringify(answer));
const counted = await tableFromIPC(await get("format=arrow&columns=id"));
assert.equal(counted.numRows, 2002);

// What is wrong is said.
const [refused, why] = await post(tableToIPC(tableFromArrays({ nope: Int32Array.of(1) }), "stream"), "wrong");
assert.equal(refused, 400);
assert.match(why.Message, /nope/);
console.log("apache-arrow read, appended and checked", counted.numRows, "rows");
