"""The official Anthropic SDK against the simulator."""

import json
import unittest

import anthropic

from simulator import URL

MODEL = "claude-sonnet-5-5"
TOOL = {
    "name": "add",
    "input_schema": {
        "type": "object",
        "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
        "required": ["x", "y"],
    },
}
PAIR = '[[tool add {"x": 1, "y": 2}]] [[tool add {"x": 3, "y": 4}]]'


def user(content):
    return {"role": "user", "content": content}


def results(message, texts):
    calls = [block for block in message.content if block.type == "tool_use"]
    return user(
        [
            {"type": "tool_result", "tool_use_id": call.id, "content": text}
            for call, text in zip(calls, texts)
        ]
    )


class AnthropicSdk(unittest.TestCase):
    def setUp(self):
        self.client = anthropic.Anthropic(base_url=URL, api_key="sk-ant-sim", max_retries=0)
        self.addCleanup(self.client.close)

    def options(self, text, **options):
        return {"model": MODEL, "max_tokens": 4096, "messages": [user(text)], **options}

    def ask(self, text, **options):
        return self.client.messages.create(**self.options(text, **options))

    def test_unary(self):
        answer = self.ask("hello")
        self.assertEqual(answer.content[0].text, "Echo: hello")
        self.assertEqual(answer.stop_reason, "end_turn")
        self.assertEqual(answer.usage.output_tokens, 3)

    def test_old_version_and_key_header(self):
        headers = {"anthropic-version": "2023-06-01", "x-api-key": "sk-ant-sim"}
        answer = self.ask(
            "hello",
            model="claude-sonnet-4-6",
            extra_headers=headers,
            extra_body={"temperature": 0.5},
        )
        self.assertEqual(answer.content[0].text, "Echo: hello")

    def test_new_version_refuses_sampling(self):
        with self.assertRaises(anthropic.BadRequestError) as refused:
            self.ask("hello", extra_body={"temperature": 1.0})
        self.assertIn("Extra inputs are not permitted", str(refused.exception))

    def test_stream(self):
        with self.client.messages.stream(**self.options("[[words 20]]")) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        self.assertEqual(len(text), 80)
        self.assertEqual(final.usage.output_tokens, 20)
        self.assertEqual(final.stop_reason, "end_turn")

    def test_length_and_stop(self):
        short = self.ask("[[words 20]]", max_tokens=5)
        self.assertEqual((short.stop_reason, short.usage.output_tokens), ("max_tokens", 5))
        stopped = self.ask("[[say one two three]]", stop_sequences=["two"])
        self.assertEqual((stopped.stop_reason, stopped.stop_sequence), ("stop_sequence", "two"))

    def test_cached_tokens(self):
        usage = self.ask("[[fault cached=3 cache_write=2]] a prompt of many tokens").usage
        self.assertEqual((usage.cache_read_input_tokens, usage.cache_creation_input_tokens), (3, 2))
        self.assertGreater(usage.input_tokens, 0)

    def test_parallel_tools_with_thinking_replayed(self):
        options = self.options(
            "[[think both]]" + PAIR, tools=[TOOL], thinking={"type": "adaptive"}
        )
        with self.client.messages.stream(**options) as stream:
            message = stream.get_final_message()
        self.assertEqual(
            [block.type for block in message.content], ["thinking", "tool_use", "tool_use"]
        )
        self.assertEqual(message.stop_reason, "tool_use")
        self.assertEqual(message.content[2].input, {"x": 3, "y": 4})
        history = options["messages"] + [
            {"role": "assistant", "content": message.content},
            results(message, ["three", "seven"]),
        ]
        final = self.client.messages.create(**{**options, "messages": history})
        self.assertEqual(final.content[-1].text, "add returned: three\nadd returned: seven")
        without = [block for block in message.content if block.type != "thinking"]
        history[1] = {"role": "assistant", "content": without}
        with self.assertRaises(anthropic.BadRequestError):
            self.client.messages.create(**{**options, "messages": history})

    def test_tool_without_arguments(self):
        with self.client.messages.stream(**self.options("[[tool add]]", tools=[TOOL])) as stream:
            message = stream.get_final_message()
        self.assertEqual(message.content[0].input, {})

    def test_forced_tool(self):
        answer = self.ask("please", tools=[TOOL], tool_choice={"type": "tool", "name": "add"})
        self.assertEqual(answer.content[0].input, {"x": 1, "y": 1})

    def test_missing_result_is_refused(self):
        message = self.ask(PAIR, tools=[TOOL])
        history = [
            user(PAIR),
            {"role": "assistant", "content": message.content},
            results(message, ["only one"]),
        ]
        with self.assertRaises(anthropic.BadRequestError) as refused:
            self.ask("", messages=history, tools=[TOOL])
        self.assertIn("without `tool_result` blocks", str(refused.exception))

    def test_json_schema(self):
        schema = {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        }
        answer = self.ask(
            "plan", output_config={"format": {"type": "json_schema", "schema": schema}}
        )
        self.assertEqual(json.loads(answer.content[0].text), {"city": "city"})

    def test_count_and_models(self):
        counted = self.client.messages.count_tokens(model=MODEL, messages=[user("12345678")])
        self.assertEqual(counted.input_tokens, 2)
        listed = [model.id for model in self.client.models.list(limit=2)]
        self.assertIn(MODEL, listed)
        self.assertEqual(len(listed), len(set(listed)))

    def test_errors(self):
        cases = [
            ("status=401", anthropic.AuthenticationError),
            ("kind=billing", anthropic.APIStatusError),
            ("status=429 retry_after=2", anthropic.RateLimitError),
            ("kind=context", anthropic.BadRequestError),
            ("status=500", anthropic.InternalServerError),
            ("status=529", anthropic.InternalServerError),
            ("close", anthropic.APIConnectionError),
        ]
        for fault, expected in cases:
            with self.subTest(fault), self.assertRaises(expected):
                self.ask(f"[[fault {fault}]] hi")
        with self.assertRaises(anthropic.NotFoundError):
            self.ask("hi", model="no-such-model")

    def test_error_inside_a_stream(self):
        options = self.options("[[fault error_after=2]] a long enough text")
        with self.assertRaises(anthropic.APIStatusError):
            with self.client.messages.stream(**options) as stream:
                stream.get_final_message()


if __name__ == "__main__":
    unittest.main()
