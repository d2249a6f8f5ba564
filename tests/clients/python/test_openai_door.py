"""The official OpenAI SDK, unchanged, against a running `tutti up` that answers with the simulator.

`tests/run` starts it and sets TUTTI_TARGET (host:port).
"""

import json
import os
import unittest
import uuid

import grpc
import openai
import stubs  # noqa: F401  (generates the modules imported below)
from tutti.ledger.v1 import ledger_pb2, ledger_pb2_grpc

TARGET = os.environ["TUTTI_TARGET"]
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}},
    },
}
PAIR = '[[tool add {"x": 1, "y": 2}]] [[tool add {"x": 3, "y": 4}]]'


def user(text: str) -> list:
    return [{"role": "user", "content": text}]


class OpenAiDoor(unittest.TestCase):
    def setUp(self) -> None:
        # With its retries on, as everybody has them.
        self.client = openai.OpenAI(base_url=f"http://{TARGET}/v1", api_key="unused")
        self.addCleanup(self.client.close)

    def ask(self, text: str, **options):
        return self.client.chat.completions.create(model=options.pop("model", "auto"), messages=user(text), **options)

    def attempts_of(self, request_id: str) -> list:
        """The settled attempts of a request in the ledger; settlement is off the caller's path, so it is waited for."""
        with grpc.insecure_channel(TARGET) as channel:
            ledger = ledger_pb2_grpc.LedgerServiceStub(channel)
            request = ledger_pb2.ListUsageRequest(filter=ledger_pb2.UsageFilter(request_id=request_id))
            for _ in range(200):
                records = ledger.ListUsage(request, timeout=10).records
                if records and all(r.state != ledger_pb2.USAGE_STATE_RESERVED for r in records):
                    return list(records)
        self.fail(f"{request_id}: {records}")

    def test_a_chat_is_answered_and_booked_as_over_grpc(self) -> None:
        raw = self.client.chat.completions.with_raw_response.create(
            model="auto", messages=user("hello door"), user="ann", extra_headers={"x-tutti-team": "red"})
        answer = raw.parse()
        self.assertEqual(answer.choices[0].message.content, "Echo: hello door")
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        self.assertEqual(raw.headers["x-tutti-backend"], "simulator")
        records = self.attempts_of(raw.headers["x-request-id"])
        self.assertEqual(len(records), 1)
        self.assertEqual((records[0].attribution.team, records[0].attribution.tags["user"]), ("red", "ann"))

    def test_a_stream_with_usage(self) -> None:
        chunks = list(self.ask("[[words 20]]", stream=True, stream_options={"include_usage": True}))
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        self.assertEqual(len(text), 80)
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertEqual(chunks[-2].choices[0].finish_reason, "stop")
        self.assertEqual(chunks[-1].usage.completion_tokens, 20)

    def test_parallel_tools_round_trip(self) -> None:
        asked = user(PAIR)
        answer = self.client.chat.completions.create(model="auto", messages=asked, tools=[ADD])
        message = answer.choices[0].message
        self.assertEqual(answer.choices[0].finish_reason, "tool_calls")
        sums = [sum(json.loads(call.function.arguments).values()) for call in message.tool_calls]
        self.assertEqual(sums, [3, 7])
        results = [{"role": "tool", "tool_call_id": call.id, "content": str(total)}
                   for call, total in zip(message.tool_calls, sums)]
        answer = self.client.chat.completions.create(model="auto", messages=[*asked, message, *results], tools=[ADD])
        self.assertEqual(answer.choices[0].message.content.splitlines(), ["add returned: 3", "add returned: 7"])

    def test_the_stream_helper_puts_parallel_calls_together(self) -> None:
        with self.client.chat.completions.stream(model="auto", messages=user(PAIR), tools=[ADD]) as stream:
            message = stream.get_final_completion().choices[0].message
        self.assertEqual([json.loads(c.function.arguments)["x"] for c in message.tool_calls], [1, 3])

    def test_json_schema(self) -> None:
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"],
                  "additionalProperties": False}
        response_format = {"type": "json_schema", "json_schema": {"name": "count", "schema": schema, "strict": True}}
        answer = self.ask("count", response_format=response_format)
        self.assertIsInstance(json.loads(answer.choices[0].message.content)["n"], int)

    def test_a_session_is_remembered(self) -> None:
        headers = {"x-tutti-session": f"door-{uuid.uuid4()}"}
        self.ask("the word is tangerine", extra_headers=headers)
        answer = self.ask("[[history]]", extra_headers=headers)
        self.assertIn("tangerine", answer.choices[0].message.content)

    def test_embeddings(self) -> None:
        # The SDK asks for base64 unless it is told otherwise.
        packed = self.client.embeddings.create(model="auto", input=["one text", "another text"])
        plain = self.client.embeddings.create(model="auto", input="one text", encoding_format="float")
        self.assertEqual([item.index for item in packed.data], [0, 1])
        self.assertEqual(len(packed.data[0].embedding), len(plain.data[0].embedding))
        for one, other in zip(packed.data[0].embedding, plain.data[0].embedding):
            self.assertAlmostEqual(one, other, places=5)

    def test_models(self) -> None:
        ids = [model.id for model in self.client.models.list()]
        self.assertIn("auto", ids)
        self.assertIn("persona/architect", ids)
        self.assertEqual(self.client.models.retrieve("persona/architect").id, "persona/architect")
        answer = self.ask("[[system]]", model="persona/architect")
        self.assertIn("You design software systems", answer.choices[0].message.content)

    def test_errors_have_the_sdks_types_and_our_reasons(self) -> None:
        with self.assertRaises(openai.NotFoundError) as unknown:
            self.ask("hi", model="no-such-thing")
        self.assertEqual(unknown.exception.code, "unknown_model")
        with self.assertRaises(openai.BadRequestError) as hot:
            self.ask("hi", temperature=3)
        self.assertEqual((hot.exception.code, hot.exception.param), ("invalid_request", "temperature"))

    def test_what_was_tried_several_times_is_not_tried_again_by_the_sdk(self) -> None:
        request_id = str(uuid.uuid4())
        with self.assertRaises(openai.APIStatusError) as failed:
            self.ask("[[fault status=500]]", model="simulator", extra_headers={"x-tutti-request-id": request_id})
        self.assertGreaterEqual(failed.exception.status_code, 500)
        self.assertEqual(failed.exception.response.headers["x-should-retry"], "false")
        self.assertEqual(len(self.attempts_of(request_id)), 3)

    def test_a_stream_that_breaks_raises(self) -> None:
        with self.assertRaises(openai.APIError) as broken:
            list(self.ask("[[words 20]] [[fault truncate_after=2]]", stream=True))
        self.assertEqual(broken.exception.code, "truncated")


if __name__ == "__main__":
    unittest.main()
