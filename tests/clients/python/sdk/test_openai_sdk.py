"""The official OpenAI SDK against the simulator."""

import json
import unittest
import uuid

import openai

from simulator import URL, count

MODEL = "gpt-5.4"
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
            "required": ["x", "y"],
        },
    },
}
PAIR = '[[tool add {"x": 1, "y": 2}]] [[tool add {"x": 3, "y": 4}]]'


def user(text):
    return [{"role": "user", "content": text}]


class OpenAiSdk(unittest.TestCase):
    def setUp(self):
        self.client = openai.OpenAI(base_url=f"{URL}/v1", api_key="sk-sim", max_retries=0)
        self.addCleanup(self.client.close)

    def ask(self, text, **options):
        return self.client.chat.completions.create(
            model=options.pop("model", MODEL), messages=user(text), **options
        )

    def test_unary(self):
        answer = self.ask("hello")
        self.assertEqual(answer.choices[0].message.content, "Echo: hello")
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        self.assertEqual(answer.usage.completion_tokens, 3)
        self.assertEqual(answer.system_fingerprint, "sim")

    def test_attempt_is_counted(self):
        attempt = str(uuid.uuid4())
        self.ask("hello", extra_headers={"x-client-request-id": attempt})
        seen = count(attempt)
        self.assertEqual((seen["state"], seen["status"]), ("finished", 200))
        self.assertEqual(seen["output_tokens_sent"], 3)

    def test_stream_with_usage(self):
        chunks = list(
            self.ask("[[words 20]]", stream=True, stream_options={"include_usage": True})
        )
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        self.assertEqual(len(text), 80)
        self.assertEqual(chunks[-2].choices[0].finish_reason, "stop")
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage.completion_tokens, 20)

    def test_length_and_stop(self):
        short = self.ask("[[words 20]]", max_completion_tokens=5)
        self.assertEqual(short.choices[0].finish_reason, "length")
        self.assertEqual(short.usage.completion_tokens, 5)
        stopped = self.ask("[[say one two three]]", model="gpt-4.1", stop=["two"])
        self.assertEqual(stopped.choices[0].message.content, "one ")
        self.assertEqual(stopped.choices[0].finish_reason, "stop")

    def test_parallel_tools_and_results(self):
        message = self.ask(PAIR, tools=[TOOL]).choices[0].message
        self.assertEqual(
            [json.loads(call.function.arguments)["x"] for call in message.tool_calls], [1, 3]
        )
        history = user(PAIR) + [message.model_dump(exclude_none=True)]
        for call, text in zip(message.tool_calls, ["three", "seven"]):
            history.append({"role": "tool", "tool_call_id": call.id, "content": text})
        final = self.client.chat.completions.create(model=MODEL, messages=history, tools=[TOOL])
        self.assertEqual(
            final.choices[0].message.content, "add returned: three\nadd returned: seven"
        )

    def test_streamed_tools(self):
        calls = {}
        finish = None
        for chunk in self.ask(PAIR, tools=[TOOL], stream=True):
            finish = chunk.choices[0].finish_reason or finish
            for part in chunk.choices[0].delta.tool_calls or []:
                name, arguments = calls.get(part.index, ("", ""))
                calls[part.index] = (
                    name or part.function.name,
                    arguments + part.function.arguments,
                )
        self.assertEqual(finish, "tool_calls")
        self.assertEqual(
            calls, {0: ("add", '{"x": 1, "y": 2}'), 1: ("add", '{"x": 3, "y": 4}')}
        )

    def test_forced_tool(self):
        choice = {"type": "function", "function": {"name": "add"}}
        message = self.ask("please", tools=[TOOL], tool_choice=choice).choices[0].message
        self.assertEqual(json.loads(message.tool_calls[0].function.arguments), {"x": 1, "y": 1})

    def test_result_without_call_is_refused(self):
        history = user("hi") + [{"role": "tool", "tool_call_id": "x", "content": "1"}]
        with self.assertRaises(openai.BadRequestError):
            self.client.chat.completions.create(model=MODEL, messages=history)

    def test_json_schema(self):
        schema = {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
            "additionalProperties": False,
        }
        answer = self.ask(
            "plan",
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "plan", "schema": schema, "strict": True},
            },
        )
        self.assertEqual(
            json.loads(answer.choices[0].message.content), {"city": "city", "days": 1}
        )

    def test_reasoning_content_of_compatible_servers(self):
        message = self.ask("[[think hm]] hi", model="deepseek-v4-pro").choices[0].message
        self.assertEqual(message.reasoning_content, "hm")

    def test_reasoning_models_refuse_max_tokens(self):
        with self.assertRaises(openai.BadRequestError) as refused:
            self.ask("hi", max_tokens=5)
        self.assertEqual(refused.exception.code, "unsupported_parameter")

    def test_embeddings(self):
        answer = self.client.embeddings.create(
            model="text-embedding-3-small", input=["a cat", "the cat", "revenue"], dimensions=64
        )
        vectors = [item.embedding for item in answer.data]
        self.assertEqual([len(vector) for vector in vectors], [64] * 3)

        def dot(a, b):
            return sum(x * y for x, y in zip(a, b))

        self.assertGreater(dot(vectors[0], vectors[1]), dot(vectors[0], vectors[2]))
        as_floats = self.client.embeddings.create(
            model="text-embedding-3-small", input="a cat", dimensions=64, encoding_format="float"
        )
        self.assertAlmostEqual(as_floats.data[0].embedding[0], vectors[0][0], places=5)

    def test_models(self):
        self.assertIn(MODEL, [model.id for model in self.client.models.list()])
        self.assertEqual(self.client.models.retrieve(MODEL).id, MODEL)

    def test_errors(self):
        cases = [
            ("status=401", openai.AuthenticationError),
            ("status=429 retry_after=2", openai.RateLimitError),
            ("kind=quota", openai.RateLimitError),
            ("kind=context", openai.BadRequestError),
            ("status=500", openai.InternalServerError),
            ("kind=overloaded", openai.InternalServerError),
            ("close", openai.APIConnectionError),
            ("reset", openai.APIConnectionError),
        ]
        for fault, expected in cases:
            with self.subTest(fault), self.assertRaises(expected):
                self.ask(f"[[fault {fault}]] hi")
        with self.assertRaises(openai.NotFoundError):
            self.ask("hi", model="no-such-model")

    def test_sdk_retries(self):
        client = openai.OpenAI(base_url=f"{URL}/v1", api_key="sk-sim", max_retries=2)
        self.addCleanup(client.close)
        text = f"{uuid.uuid4()} [[fault status=503 retry_after=0.01 times=2]][[say fine]]"
        answer = client.chat.completions.create(model=MODEL, messages=user(text))
        self.assertEqual(answer.choices[0].message.content, "fine")

    def test_error_inside_a_stream(self):
        stream = self.ask("[[fault error_after=2]] a long enough text", stream=True)
        with self.assertRaises(openai.APIError):
            list(stream)

    def test_wrong_key(self):
        client = openai.OpenAI(base_url=f"{URL}/v1", api_key="invalid", max_retries=0)
        self.addCleanup(client.close)
        with self.assertRaises(openai.AuthenticationError) as refused:
            client.models.list()
            client.chat.completions.create(model=MODEL, messages=user("hi"))
        self.assertEqual(refused.exception.code, "invalid_api_key")


if __name__ == "__main__":
    unittest.main()
