"""The official OpenAI SDK with its own retries on, against a `tutti up` whose only provider counts what it is asked.

`tests/run` sets TUTTI_BIN (the binary, beside which `provider-sim` stands).
"""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest
import urllib.request

import openai

TUTTI = pathlib.Path(os.environ["TUTTI_BIN"])
CONFIG = """
[backends.counting]
provider = "simulator"
model = "sim-echo"
base_url = "http://{simulator}/v1"
"""


class Retries(unittest.TestCase):
    def start(self, *command: str) -> str:
        """Starts a program of ours; the first address that it prints."""
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                   env={"PATH": os.environ["PATH"], "HOME": self.home})
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        for line in process.stdout:
            if "127.0.0.1:" in line:
                return "127.0.0.1:" + line.split("127.0.0.1:")[1].split()[0]
        self.fail(f"{command[0]} did not say where it listens")

    def setUp(self) -> None:
        self.home = self.enterContext(tempfile.TemporaryDirectory())
        self.simulator = self.start(str(TUTTI.with_name("provider-sim")))
        config = pathlib.Path(self.home) / "config"
        config.mkdir()
        (config / "config.toml").write_text(CONFIG.format(simulator=self.simulator))
        mesh = self.start(str(TUTTI), "up", "--listen", "127.0.0.1:0", "--config-dir", str(config),
                          "--data-dir", str(pathlib.Path(self.home) / "data"))
        # Two retries, the SDK's default.
        self.client = openai.OpenAI(base_url=f"http://{mesh}/v1", api_key="unused")
        self.addCleanup(self.client.close)

    def generations(self) -> int:
        """How many answers the provider was asked for, by its own count."""
        with urllib.request.urlopen(f"http://{self.simulator}/sim/requests", timeout=10) as answer:
            listed = json.load(answer)
        requests = listed["requests"] if isinstance(listed, dict) else listed
        return sum("chat/completions" in request["target"] for request in requests)

    def ask(self, text: str):
        return self.client.chat.completions.create(model="counting", messages=[{"role": "user", "content": text}])

    def test_what_the_mesh_tried_in_vain_is_not_multiplied(self) -> None:
        self.ask("hello")
        self.assertEqual(self.generations(), 1)
        with self.assertRaises(openai.APIStatusError) as failed:
            self.ask("[[fault status=500]]")
        headers = failed.exception.response.headers
        self.assertEqual(headers["x-should-retry"], "false")
        self.assertEqual(self.generations() - 1, int(headers["x-tutti-attempts"]))


if __name__ == "__main__":
    unittest.main()
