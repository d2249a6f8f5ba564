// A Node client against a running `tutti up` that answers with the simulator. `tests/run` starts it and sets TUTTI_TARGET
// (host:port) and TUTTI_WORKSPACE (the folder of the workspace `default`).

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";

import grpc from "@grpc/grpc-js";

import { call, details, tutti } from "./stubs.mjs";

const { TUTTI_TARGET, TUTTI_WORKSPACE } = process.env;
const GREETING = "a greeting for node";
const ASK_FOR_TOOL = '[[tool read {"path":"node.txt"}]]';

const connect = (Service) => new Service(TUTTI_TARGET, grpc.credentials.createInsecure());
const router = connect(tutti.router.v1.RouterService);
const ledger = connect(tutti.ledger.v1.LedgerService);
const audit = connect(tutti.sandbox.v1.AuditService);

const user = (text) => ({ role: "ROLE_USER", text });

/** The settled records of a request; settlement is off the caller's path, so it is waited for. */
async function usageOf(requestId, expected) {
  let records;
  for (let look = 0; look < 200; look += 1) {
    ({ records } = await call(ledger, "ListUsage", { filter: { request_id: requestId } }));
    if (records.length >= expected && records.every(({ state }) => state !== "USAGE_STATE_RESERVED")) return records;
  }
  assert.fail(`${requestId}: ${JSON.stringify(records)}`);
}

/** All events of a streamed chat. */
async function stream(chat, seconds = 30) {
  const events = [];
  for await (const event of router.ChatStream({ chat }, { deadline: Date.now() + seconds * 1000 })) events.push(event);
  return events;
}

before(() => fs.writeFileSync(path.join(TUTTI_WORKSPACE, "node.txt"), GREETING));
after(() => [router, ledger, audit].forEach((client) => client.close()));

test("chat answers with usage that the ledger has too", async () => {
  const answer = await call(router, "Chat", { messages: [user("hello from node")] });
  assert.match(answer.message.text, /hello from node/);
  assert.equal(answer.finish_reason, "FINISH_REASON_STOP");
  assert.ok(answer.usage.output_tokens > 0);
  const [record] = await usageOf(answer.request_id, 1);
  assert.equal(record.attempt_id, answer.attempts[0].attempt_id);
});

test("a streamed chat runs a tool, and usage and audit show it", async () => {
  const requestId = randomUUID();
  const events = await stream({ messages: [user(ASK_FOR_TOOL)], mesh_tools: ["read"], request_id: requestId });
  assert.deepEqual(events.map(({ seq }) => seq), events.map((_, index) => index + 1));
  const kinds = events.map(({ event }) => event);
  assert.deepEqual([kinds.at(0), kinds.at(-1)], ["route", "done"]);
  assert.ok(kinds.includes("tool_call") && kinds.indexOf("tool_call") < kinds.indexOf("tool_result"), kinds.join());
  const { done } = events.at(-1);
  assert.equal(events.map(({ event, delta }) => (event === "delta" ? delta : "")).join(""), done.message.text);
  assert.ok(done.message.text.includes(GREETING), done.message.text);
  assert.equal(done.tool_results[0].output.trim(), GREETING);
  assert.equal((await usageOf(requestId, 2)).length, 2);
  const { records } = await call(audit, "QueryAudit", { request_id: requestId });
  assert.deepEqual(records.map(({ tool, success, finished }) => [tool, success, finished]), [["read", true, true]]);
});

test("errors have a reason and name the field", async () => {
  await assert.rejects(call(router, "Chat", { messages: [{ text: "who?" }] }), (error) => {
    assert.equal(error.code, grpc.status.INVALID_ARGUMENT);
    const { ErrorInfo, BadRequest } = details(error);
    assert.equal(ErrorInfo.reason, "INVALID_REQUEST");
    assert.equal(BadRequest.field_violations[0].field, "messages[0].role");
    return true;
  });
});

test("a refused stream has its reason too", async () => {
  await assert.rejects(stream({ messages: [user("hi")], backend: "simulatr" }), (error) => {
    assert.equal(error.code, grpc.status.NOT_FOUND);
    assert.equal(details(error).ErrorInfo.reason, "UNKNOWN_BACKEND");
    return true;
  });
});

test("a deadline is exceeded, not cancelled", async () => {
  const slow = call(router, "Chat", { messages: [user("[[fault stall_after=1]] one two three")] }, 0.5);
  await assert.rejects(slow, (error) => error.code === grpc.status.DEADLINE_EXCEEDED);
});

test("a hundred calls share one connection", async () => {
  const texts = Array.from({ length: 100 }, (_, number) => `number ${number} of node`);
  const answers = await Promise.all(texts.map((text) => call(router, "Chat", { messages: [user(text)] })));
  answers.forEach((answer, number) => assert.ok(answer.message.text.includes(texts[number])));
});
