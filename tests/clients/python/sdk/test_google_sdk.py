"""The official Google Gen AI SDK against the simulator, in both API versions."""

import json
import unittest

from google import genai
from google.genai import errors, types

from simulator import URL

MODEL = "gemini-3.8-flash"
ADD = types.FunctionDeclaration(
    name="add",
    parameters_json_schema={
        "type": "object",
        "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
    },
)
TOOLS = [types.Tool(function_declarations=[ADD])]
PAIR = '[[tool add {"x": 1, "y": 2}]] [[tool add {"x": 3, "y": 4}]]'


def client(version, key="sim"):
    options = types.HttpOptions(base_url=URL, api_version=version)
    return genai.Client(api_key=key, vertexai=False, http_options=options)


class GoogleSdk(unittest.TestCase):
    def setUp(self):
        self.client = client("v1beta")
        self.addCleanup(self.client.close)

    def ask(self, contents, **config):
        return self.client.models.generate_content(
            model=MODEL, contents=contents, config=types.GenerateContentConfig(**config)
        )

    def stream(self, contents, **config):
        return self.client.models.generate_content_stream(
            model=MODEL, contents=contents, config=types.GenerateContentConfig(**config)
        )

    def test_unary_in_both_versions(self):
        for version in ["v1", "v1beta"]:
            with self.subTest(version), client(version) as one:
                answer = one.models.generate_content(model=MODEL, contents="hello")
                self.assertEqual(answer.text, "Echo: hello")
                self.assertEqual(answer.candidates[0].finish_reason, types.FinishReason.STOP)
                self.assertEqual(answer.usage_metadata.candidates_token_count, 3)

    def test_stream(self):
        chunks = list(self.stream("[[words 20]]", system_instruction="be brief"))
        self.assertEqual(len("".join(chunk.text or "" for chunk in chunks)), 80)
        counts = [chunk.usage_metadata.candidates_token_count for chunk in chunks]
        self.assertEqual((counts[0], counts[-1]), (1, 20))
        self.assertEqual(chunks[-1].candidates[0].finish_reason, types.FinishReason.STOP)

    def test_length_and_stop(self):
        short = self.ask("[[words 20]]", max_output_tokens=5)
        self.assertEqual(short.candidates[0].finish_reason, types.FinishReason.MAX_TOKENS)
        self.assertEqual(self.ask("[[say one two]]", stop_sequences=["two"]).text, "one ")

    def test_thoughts(self):
        thinking = types.ThinkingConfig(include_thoughts=True)
        answer = self.ask("[[think hm]] hi", thinking_config=thinking)
        self.assertTrue(answer.candidates[0].content.parts[0].thought)
        self.assertEqual(answer.usage_metadata.thoughts_token_count, 1)
        self.assertEqual(answer.text, "Echo: hi")

    def call(self, streamed):
        if not streamed:
            return self.ask(PAIR, tools=TOOLS).candidates[0].content
        parts = []
        for chunk in self.stream(PAIR, tools=TOOLS):
            parts += [part for part in chunk.candidates[0].content.parts if part.function_call]
        return types.Content(role="model", parts=parts)

    def test_parallel_tools_with_signature_replayed(self):
        for streamed in [False, True]:
            with self.subTest(streamed=streamed):
                content = self.call(streamed)
                calls = [part.function_call for part in content.parts]
                self.assertEqual([call.args["x"] for call in calls], [1, 3])
                self.assertIsNotNone(content.parts[0].thought_signature)
                results = [
                    types.Part.from_function_response(name="add", response={"output": text})
                    for text in ["three", "seven"]
                ]
                history = [
                    types.Content(role="user", parts=[types.Part.from_text(text=PAIR)]),
                    content,
                    types.Content(role="user", parts=results),
                ]
                final = self.ask(history, tools=TOOLS)
                self.assertEqual(final.text, "add returned: three\nadd returned: seven")
                content.parts[0].thought_signature = None
                with self.assertRaises(errors.ClientError) as refused:
                    self.ask(history, tools=TOOLS)
                self.assertIn("thought_signature", str(refused.exception))

    def test_forced_tool(self):
        calling = types.FunctionCallingConfig(mode="ANY", allowed_function_names=["add"])
        answer = self.ask(
            "go", tools=TOOLS, tool_config=types.ToolConfig(function_calling_config=calling)
        )
        self.assertEqual(answer.function_calls[0].args, {"x": 1, "y": 1})

    def test_json_schema(self):
        schema = {"type": "object", "properties": {"city": {"type": "string"}}}
        answer = self.ask(
            "plan", response_mime_type="application/json", response_json_schema=schema
        )
        self.assertEqual(json.loads(answer.text), {"city": "city"})
        typed = types.Schema(type="OBJECT", properties={"n": types.Schema(type="INTEGER")})
        answer = self.ask("plan", response_mime_type="application/json", response_schema=typed)
        self.assertEqual(json.loads(answer.text), {"n": 1})

    def test_embeddings(self):
        answer = self.client.models.embed_content(
            model="gemini-embedding-001",
            contents=["a cat", "revenue"],
            config=types.EmbedContentConfig(output_dimensionality=64),
        )
        self.assertEqual([len(one.values) for one in answer.embeddings], [64, 64])

    def test_count_and_models(self):
        counted = self.client.models.count_tokens(model=MODEL, contents="12345678")
        self.assertEqual(counted.total_tokens, 2)
        with client("v1") as one:
            names = [model.name for model in one.models.list(config={"page_size": 2})]
        self.assertIn(f"models/{MODEL}", names)

    def test_errors(self):
        cases = [
            ("kind=auth", errors.ClientError, 400),
            ("status=429 retry_after=2", errors.ClientError, 429),
            ("kind=context", errors.ClientError, 400),
            ("status=500", errors.ServerError, 500),
            ("status=503", errors.ServerError, 503),
        ]
        for fault, expected, code in cases:
            with self.subTest(fault), self.assertRaises(expected) as raised:
                self.ask(f"[[fault {fault}]] hi")
            self.assertEqual(raised.exception.code, code)
        with self.assertRaises(errors.ClientError), client("v1", key="invalid") as one:
            one.models.generate_content(model=MODEL, contents="hi")

    def test_error_inside_a_stream(self):
        with self.assertRaises(errors.ServerError):
            list(self.stream("[[fault error_after=2]] a long enough text"))


if __name__ == "__main__":
    unittest.main()
