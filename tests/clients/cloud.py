"""The Gandi driver of apache-libcloud, run where it is installed."""

import json
import select
import subprocess
from pathlib import Path
from typing import Any

from tests.clients.gandi import ENVIRONMENTS


class Cloud:
    """Evaluates expressions with libcloud's `driver` for the API at `port` and what was named before."""

    def __init__(self, port: int, key: str) -> None:
        python = ENVIRONMENTS / "libcloud" / "bin" / "python"
        assert python.exists(), f"there is no {python}: run `make clients`"
        script = Path(__file__).with_name("libcloud_driver.py")
        # isolated: neither variables (proxies among them) nor the tests' folder are the driver's business
        self._process = subprocess.Popen(
            [str(python), "-I", str(script), str(port), key],
            env={}, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=20)

    def value(self, expression: str, name: str = "", seconds: float = 60) -> Any:
        """The value of the expression, kept as `name`; what is no JSON comes as its `repr`."""
        answer = self._ask(expression, name, seconds)
        assert "error" not in answer, f"{expression}: {answer['error']}"
        return answer["value"]

    def error(self, expression: str) -> str:
        """Type and words of the exception that the expression ends with."""
        answer = self._ask(expression, "", 60)
        assert "error" in answer, f"{expression} gave {answer['value']!r}"
        return str(answer["error"])

    def _ask(self, expression: str, name: str, seconds: float) -> dict[str, Any]:
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        requests.write(json.dumps({"name": name, "expression": expression}) + "\n")
        requests.flush()
        assert select.select([answers], [], [], seconds)[0], f"no answer within {seconds:g} s to {expression}"
        line = answers.readline()
        assert line, f"the process ended with {self._process.wait(5)} instead of answering {expression}"
        answer: dict[str, Any] = json.loads(line)
        return answer
