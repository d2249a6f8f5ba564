// The official OpenAI SDK, unchanged, against a running `tutti up` that answers with the simulator.
// `tests/run` starts it and sets TUTTI_TARGET (host:port).

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `http://${process.env.TUTTI_TARGET}/v1`, apiKey: "unused" });
const user = (content) => [{ role: "user", content }];
const tools = [{ type: "function", function: { name: "add", parameters: { type: "object", properties: {} } } }];
const pair = '[[tool add {"x": 1, "y": 2}]] [[tool add {"x": 3, "y": 4}]]';

test("a chat is answered", async () => {
  const { data, response } = await client.chat.completions
    .create({ model: "auto", messages: user("hello door") })
    .withResponse();
  assert.equal(data.choices[0].message.content, "Echo: hello door");
  assert.equal(response.headers.get("x-tutti-backend"), "simulator");
  assert.equal(data.id, `chatcmpl-${response.headers.get("x-request-id")}`);
});

test("a stream ends with its usage", async () => {
  const stream = await client.chat.completions.create({
    model: "auto", messages: user("[[words 20]]"), stream: true, stream_options: { include_usage: true },
  });
  let text = "", last;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    last = chunk;
  }
  assert.equal(text.length, 80);
  assert.equal(last.usage.completion_tokens, 20);
});

test("parallel tools make a round trip", async () => {
  const asked = user(pair);
  const first = await client.chat.completions.create({ model: "auto", messages: asked, tools });
  const message = first.choices[0].message;
  const sums = message.tool_calls.map((call) => {
    const { x, y } = JSON.parse(call.function.arguments);
    return x + y;
  });
  assert.deepEqual(sums, [3, 7]);
  const results = message.tool_calls.map((call, i) => ({ role: "tool", tool_call_id: call.id, content: `${sums[i]}` }));
  const second = await client.chat.completions.create({ model: "auto", messages: [...asked, message, ...results], tools });
  assert.equal(second.choices[0].message.content, "add returned: 3\nadd returned: 7");
});

test("embeddings and models", async () => {
  const vectors = await client.embeddings.create({ model: "auto", input: ["one text", "another"] });
  assert.equal(vectors.data.length, 2);
  assert.ok(vectors.data[0].embedding.length > 0);
  const ids = (await client.models.list()).data.map((model) => model.id);
  assert.ok(ids.includes("auto") && ids.includes("persona/architect"));
  assert.equal((await client.models.retrieve("persona/architect")).id, "persona/architect");
});

test("errors have the SDK's types and our reasons, and are not retried", async () => {
  await assert.rejects(client.chat.completions.create({ model: "no-such-thing", messages: user("hi") }), (error) => {
    return error instanceof OpenAI.NotFoundError && error.code === "unknown_model";
  });
  const failing = client.chat.completions.create({ model: "simulator", messages: user("[[fault status=500]]") });
  await assert.rejects(failing, (error) => error.status >= 500 && error.headers.get("x-should-retry") === "false");
});

test("a stream that breaks throws", async () => {
  const stream = await client.chat.completions.create({
    model: "auto", messages: user("[[words 20]] [[fault truncate_after=2]]"), stream: true,
  });
  await assert.rejects(async () => { for await (const _ of stream); }, (error) => error.code === "truncated");
});
