"""The first call from Python: streams one answer. Run it beside `tutti up`:

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install -r tests/clients/python/requirements.txt
    /tmp/venv/bin/python tests/clients/python/chat.py "hello"
"""

import os
import sys

import grpc
import stubs  # noqa: F401  (generates the modules imported below)
from tutti.llm.v1.message_pb2 import ROLE_USER, Message
from tutti.router.v1.router_pb2 import ChatRequest, ChatStreamRequest
from tutti.router.v1.router_pb2_grpc import RouterServiceStub


def main() -> None:
    text = " ".join(sys.argv[1:]) or "hello"
    with grpc.insecure_channel(os.environ.get("TUTTI_TARGET", "127.0.0.1:7070")) as channel:
        chat = ChatRequest(messages=[Message(role=ROLE_USER, text=text)])
        for event in RouterServiceStub(channel).ChatStream(ChatStreamRequest(chat=chat), timeout=60):
            if event.HasField("delta"):
                print(event.delta, end="", flush=True)
            elif event.HasField("done"):
                usage = event.done.usage
                print(f"\n[{event.done.backend}: {usage.input_tokens} in, {usage.output_tokens} out, "
                      f"${usage.cost_nano_usd / 1e9:.6f}]")


if __name__ == "__main__":
    main()
