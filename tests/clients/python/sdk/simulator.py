"""The simulator under test, and its counts."""

import json
import os
import urllib.request

ADDR = os.environ["SIM_ADDR"]
URL = f"http://{ADDR}"


def count(attempt: str) -> dict:
    """What the simulator recorded of the request with this attempt id."""
    with urllib.request.urlopen(f"{URL}/sim/requests/{attempt}") as answer:
        return json.load(answer)
