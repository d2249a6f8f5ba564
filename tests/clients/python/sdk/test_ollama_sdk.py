"""The official Ollama client against the simulator."""

import json
import unittest

import ollama

from simulator import URL

MODEL = "qwen3:8b"
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
        },
    },
}
PAIR = '[[tool add {"x": 1, "y": 2}]] [[tool add {"x": 3, "y": 4}]]'


def user(text):
    return [{"role": "user", "content": text}]


class OllamaSdk(unittest.TestCase):
    def setUp(self):
        self.client = ollama.Client(host=URL)
        self.addCleanup(self.client.close)

    def ask(self, text, **options):
        return self.client.chat(model=options.pop("model", MODEL), messages=user(text), **options)

    def test_unary(self):
        answer = self.ask("hello")
        self.assertEqual(answer.message.content, "Echo: hello")
        self.assertEqual((answer.done_reason, answer.eval_count), ("stop", 3))

    def test_stream(self):
        lines = list(self.ask("[[words 20]]", stream=True))
        self.assertEqual(len("".join(line.message.content for line in lines)), 80)
        self.assertTrue(lines[-1].done)
        self.assertEqual(lines[-1].eval_count, 20)

    def test_length_and_thinking(self):
        short = self.ask("[[words 20]]", options={"num_predict": 5})
        self.assertEqual(short.done_reason, "length")
        answer = self.ask("[[think hm]] hi", think=True)
        self.assertEqual((answer.message.thinking, answer.message.content), ("hm", "Echo: hi"))
        with self.assertRaises(ollama.ResponseError):
            self.ask("hi", model="llama3.3", think=True)

    def test_parallel_tools_and_results(self):
        message = self.ask(PAIR, tools=[TOOL]).message
        streamed = []
        for line in self.ask(PAIR, tools=[TOOL], stream=True):
            streamed += line.message.tool_calls or []
        for calls in [message.tool_calls, streamed]:
            self.assertEqual([call.function.arguments["x"] for call in calls], [1, 3])
        history = user(PAIR) + [message]
        history += [
            {"role": "tool", "tool_name": "add", "content": text} for text in ["three", "seven"]
        ]
        final = self.client.chat(model=MODEL, messages=history, tools=[TOOL])
        self.assertEqual(final.message.content, "add returned: three\nadd returned: seven")

    def test_json_schema(self):
        schema = {"type": "object", "properties": {"city": {"type": "string"}}}
        self.assertEqual(
            json.loads(self.ask("plan", format=schema).message.content), {"city": "city"}
        )

    def test_embeddings(self):
        answer = self.client.embed(model="nomic-embed-text", input=["a cat", "revenue"])
        self.assertEqual([len(vector) for vector in answer.embeddings], [768, 768])
        self.assertEqual(answer.prompt_eval_count, 4)

    def test_models(self):
        self.assertIn(MODEL, [model.model for model in self.client.list().models])
        self.assertIn("tools", self.client.show(MODEL).capabilities)

    def test_errors(self):
        for fault, status in [("status=429", 429), ("status=500", 500), ("status=503", 503)]:
            with self.subTest(fault), self.assertRaises(ollama.ResponseError) as raised:
                self.ask(f"[[fault {fault}]] hi")
            self.assertEqual(raised.exception.status_code, status)
        with self.assertRaises(ollama.ResponseError) as raised:
            self.ask("hi", model="no-such-model")
        self.assertEqual(raised.exception.status_code, 404)

    def test_error_inside_a_stream(self):
        with self.assertRaises(ollama.ResponseError):
            list(self.ask("[[fault error_after=2]] a long enough text", stream=True))


if __name__ == "__main__":
    unittest.main()
