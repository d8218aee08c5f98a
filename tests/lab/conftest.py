"""Labs for tests: each is a process of its own, ended with its test."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Start = Callable[..., "subprocess.Popen[str]"]

LAB = [sys.executable, "-m", "hypervisor.lab"]
ROOT = Path(__file__).resolve().parents[2]
_numbers = itertools.count(1)


def lab(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run ``python -m hypervisor.lab`` to its end."""
    return subprocess.run(
        [*LAB, *arguments], check=False, cwd=ROOT, text=True, capture_output=True, timeout=120
    )


@pytest.fixture
def name() -> str:
    """A lab name that no other test or lab uses."""
    return f"test-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def start() -> Iterator[Start]:
    """Start labs that run on beside the test; a command says that it runs by printing a line."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [*LAB, *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE, stdin=subprocess.PIPE
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()
