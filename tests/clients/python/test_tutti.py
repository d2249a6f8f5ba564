"""A Python client, grpcurl, `buf curl` and the `tutti` command against a running `tutti up` that answers with the simulator.

`tests/run` starts it and sets TUTTI_TARGET (host:port), TUTTI_WORKSPACE (the folder of the workspace `default`),
TUTTI_BIN (the binary) and BUF (the buf binary).
"""

import json
import os
import pathlib
import subprocess
import sys
import unittest
import uuid

import grpc
import stubs  # noqa: F401  (generates the modules imported below)
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from tutti.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from tutti.llm.v1 import generation_pb2, message_pb2
from tutti.memory.v1 import session_pb2, session_pb2_grpc
from tutti.router.v1 import persona_pb2, persona_pb2_grpc, router_pb2, router_pb2_grpc
from tutti.sandbox.v1 import audit_pb2, audit_pb2_grpc

TARGET = os.environ["TUTTI_TARGET"]
WORKSPACE = pathlib.Path(os.environ["TUTTI_WORKSPACE"])
GREETING = "a greeting from the workspace"
ASK_FOR_TOOL = '[[tool read {"path":"greeting.txt"}]]'


def user(text: str) -> message_pb2.Message:
    return message_pb2.Message(role=message_pb2.ROLE_USER, text=text)


def tool_chat(**more) -> router_pb2.ChatRequest:
    return router_pb2.ChatRequest(messages=[user(ASK_FOR_TOOL)], mesh_tools=["read"], request_id=str(uuid.uuid4()), **more)


class Mesh(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        (WORKSPACE / "greeting.txt").write_text(GREETING)
        cls.channel = grpc.insecure_channel(TARGET)
        cls.router = router_pb2_grpc.RouterServiceStub(cls.channel)
        cls.ledger = ledger_pb2_grpc.LedgerServiceStub(cls.channel)
        cls.audit = audit_pb2_grpc.AuditServiceStub(cls.channel)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.channel.close()

    def usage_of(self, request_id: str, expected: int) -> list:
        """The settled records of a request; settlement is off the caller's path, so it is waited for."""
        filter = ledger_pb2.UsageFilter(request_id=request_id)
        for _ in range(200):
            records = self.ledger.ListUsage(ledger_pb2.ListUsageRequest(filter=filter), timeout=10).records
            if len(records) >= expected and all(r.state != ledger_pb2.USAGE_STATE_RESERVED for r in records):
                return list(records)
        self.fail(f"{request_id}: {records}")


class PythonClient(Mesh):
    def test_chat_answers_with_usage_that_the_ledger_has_too(self) -> None:
        chat = router_pb2.ChatRequest(messages=[user("hello mesh")])
        answer = self.router.Chat(chat, timeout=30)
        self.assertIn("hello mesh", answer.message.text)
        self.assertEqual(answer.finish_reason, generation_pb2.FINISH_REASON_STOP)
        self.assertGreater(answer.usage.output_tokens, 0)
        record = self.usage_of(answer.request_id, 1)[0]
        self.assertEqual(record.attempt_id, answer.attempts[0].attempt_id)
        self.assertEqual(record.tokens.visible_output + record.tokens.reasoning, answer.usage.output_tokens)

    def test_a_streamed_chat_runs_a_tool_and_usage_and_audit_show_it(self) -> None:
        request = tool_chat()
        events = list(self.router.ChatStream(router_pb2.ChatStreamRequest(chat=request), timeout=30))
        self.assertEqual([e.seq for e in events], list(range(1, len(events) + 1)))
        kinds = [e.WhichOneof("event") for e in events]
        self.assertEqual((kinds[0], kinds[-1]), ("route", "done"))
        self.assertLess(kinds.index("tool_call"), kinds.index("tool_result"))
        done = events[-1].done
        self.assertEqual("".join(e.delta for e in events), done.message.text)
        self.assertIn(GREETING, done.message.text)
        self.assertEqual(done.tool_results[0].output.strip(), GREETING)
        self.assertEqual(len(self.usage_of(request.request_id, 2)), 2)
        records = self.audit.QueryAudit(audit_pb2.QueryAuditRequest(request_id=request.request_id), timeout=10).records
        self.assertEqual([(r.tool, r.success, r.finished) for r in records], [("read", True, True)])

    def test_a_session_is_remembered(self) -> None:
        session = f"py-{uuid.uuid4()}"
        self.router.Chat(router_pb2.ChatRequest(messages=[user("the word is tangerine")], session_id=session), timeout=30)
        self.router.Chat(router_pb2.ChatRequest(messages=[user("again")], session_id=session), timeout=30)
        memory = session_pb2_grpc.SessionServiceStub(self.channel)
        log = memory.GetHistory(session_pb2.GetHistoryRequest(session_id=session), timeout=10).entries
        self.assertEqual([e.message.role for e in log], [2, 3, 2, 3])
        self.assertTrue(all(e.turn_state == session_pb2.TURN_STATE_COMPLETE for e in log))

    def test_errors_have_a_reason_and_name_the_field(self) -> None:
        with self.assertRaises(grpc.RpcError) as raised:
            self.router.Chat(router_pb2.ChatRequest(messages=[message_pb2.Message(text="who?")]), timeout=10)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        details = {}
        for detail in rpc_status.from_call(raised.exception).details:
            for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest):
                if detail.Is(kind.DESCRIPTOR):
                    details[kind.__name__] = kind.FromString(detail.value)
        self.assertEqual(details["ErrorInfo"].reason, "INVALID_REQUEST")
        self.assertEqual(details["BadRequest"].field_violations[0].field, "messages[0].role")

    def test_unknown_names_come_with_the_nearest(self) -> None:
        with self.assertRaises(grpc.RpcError) as raised:
            self.router.Chat(router_pb2.ChatRequest(messages=[user("hi")], backend="simulatr"), timeout=10)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.NOT_FOUND)
        self.assertIn("simulator", raised.exception.details())

    def test_a_deadline_is_exceeded_not_cancelled(self) -> None:
        with self.assertRaises(grpc.RpcError) as raised:
            self.router.Chat(router_pb2.ChatRequest(messages=[user("[[fault stall_after=1]] one two three")]), timeout=0.5)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)

    def test_every_service_is_serving(self) -> None:
        health = health_pb2_grpc.HealthStub(self.channel)
        for service in ("router.v1.RouterService", "gateway.v1.GatewayService", "memory.v1.SessionService",
                        "sandbox.v1.ToolService", "ledger.v1.LedgerService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=f"tutti.{service}"), timeout=10)
            self.assertEqual(answer.status, health_pb2.HealthCheckResponse.SERVING, service)

    def test_personas_are_listed(self) -> None:
        personas = persona_pb2_grpc.PersonaServiceStub(self.channel)
        listed = personas.ListPersonas(persona_pb2.ListPersonasRequest(), timeout=10).personas
        self.assertIn("architect", [p.id for p in listed])

    def test_the_example_of_the_readme_runs(self) -> None:
        example = pathlib.Path(__file__).with_name("chat.py")
        result = subprocess.run([sys.executable, example, "hello example"], capture_output=True, text=True, timeout=60)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("hello example", result.stdout)


class CommandLineTools(Mesh):
    def command(self, *arguments: str, input: str | None = None) -> str:
        result = subprocess.run(arguments, capture_output=True, text=True, timeout=60, input=input)
        self.assertEqual(result.returncode, 0, f"{arguments}: {result.stdout}{result.stderr}")
        return result.stdout

    def grpcurl(self, method: str, message: dict) -> list:
        tool = str(pathlib.Path(sys.executable).with_name("grpcurl"))
        return documents(self.command(tool, "-plaintext", "-d", json.dumps(message), TARGET, method))

    def buf_curl(self, method: str, message: dict) -> list:
        url = f"http://{TARGET}/{method}"
        data = json.dumps(message)
        return documents(self.command(
            os.environ["BUF"], "curl", "--protocol", "grpc", "--http2-prior-knowledge", "-d", data, url))

    def check_tool_call(self, call) -> None:
        """A chat, and a streamed chat with a tool call that usage and audit show."""
        hello = call("tutti.router.v1.RouterService/Chat", {"messages": [{"role": "ROLE_USER", "text": "hello"}]})
        self.assertIn("hello", hello[0]["message"]["text"])
        request_id = str(uuid.uuid4())
        chat = {"messages": [{"role": "ROLE_USER", "text": ASK_FOR_TOOL}], "mesh_tools": ["read"], "request_id": request_id}
        events = call("tutti.router.v1.RouterService/ChatStream", {"chat": chat})
        self.assertIn(GREETING, events[-1]["done"]["message"]["text"])
        usage = call("tutti.ledger.v1.LedgerService/GetUsage", {"filter": {"request_id": request_id}})
        self.assertEqual(usage[0]["groups"][0]["totals"]["attempts"], "2")
        audit = call("tutti.sandbox.v1.AuditService/QueryAudit", {"request_id": request_id})
        self.assertEqual(audit[0]["records"][0]["tool"], "read")

    def test_grpcurl_with_reflection_v1alpha(self) -> None:
        self.check_tool_call(self.grpcurl)

    def test_grpcurl_shows_why_a_call_failed(self) -> None:
        tool = str(pathlib.Path(sys.executable).with_name("grpcurl"))
        chat = json.dumps({"messages": [{"role": "ROLE_USER", "text": "hello"}], "backend": "nobody"})
        result = subprocess.run([tool, "-plaintext", "-d", chat, TARGET, "tutti.router.v1.RouterService/Chat"],
                                capture_output=True, text=True, timeout=60)
        self.assertNotEqual(result.returncode, 0)
        self.assertRegex(result.stderr, r'google\.rpc\.ErrorInfo')
        self.assertRegex(result.stderr, r'"reason": *"UNKNOWN_BACKEND"')

    def test_buf_curl_with_reflection(self) -> None:
        self.check_tool_call(self.buf_curl)

    def test_tutti_chat_streams_runs_a_tool_and_ends_with_the_bill(self) -> None:
        arguments = [os.environ["TUTTI_BIN"], "chat", "--address", f"http://{TARGET}", "--tool", "read"]
        result = subprocess.run([*arguments, ASK_FOR_TOOL], capture_output=True, text=True, timeout=60)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn(GREETING, result.stdout)
        self.assertRegex(result.stderr, r"→ read\(.*greeting.txt")
        self.assertRegex(result.stderr, r"simulator .*\d+ in, \d+ out, ~?\$")

    def test_tutti_shows_backends_stats_health_and_routes(self) -> None:
        tutti = [os.environ["TUTTI_BIN"]]
        address = ["--address", f"http://{TARGET}"]
        self.assertRegex(self.command(*tutti, "backends", *address), r"simulator\*? +simulator .*simulator")
        self.assertRegex(self.command(*tutti, "stats", *address), r"(?m)^total +\d+")
        self.assertRegex(self.command(*tutti, "health", *address), r"tutti.ledger.v1.LedgerService +serving")
        route = self.command(*tutti, "route", *address, "please refactor this function")
        self.assertRegex(route, r"task coding \(from keywords\)")
        self.assertRegex(route, r"(?m)^1 +simulator")


def documents(text: str) -> list:
    """JSON documents that follow one another."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(text.rstrip()):
        document, at = decoder.raw_decode(text, at)
        found.append(document)
        while at < len(text) and text[at].isspace():
            at += 1
    return found


if __name__ == "__main__":
    unittest.main()
