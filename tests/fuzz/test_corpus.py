"""What the fuzzer found worth keeping, once more: an answer or a fault, whatever comes."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz import targets

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def methods() -> Iterator[targets.Methods]:
    made = targets.Methods()
    yield made
    made.close()


def kept(target: str) -> list[bytes]:
    """The inputs of a target, those that once broke it first."""
    folders = (HERE / "crashes" / target, HERE / "corpus" / target)
    return [file.read_bytes() for folder in folders for file in sorted(folder.glob("*"))]


def replay(target: targets.Target, inputs: list[bytes]) -> None:
    longest = 0.0
    for data in inputs:
        started = time.process_time()
        target(data)
        longest = max(longest, time.process_time() - started)
    print(f"{len(inputs)} inputs, {longest:.3f} s the longest")
    assert longest < 2


def test_codec() -> None:
    inputs = kept("codec")
    assert len(inputs) > 50
    replay(targets.codec, inputs)


def test_methods(methods: targets.Methods) -> None:
    inputs = kept("methods")
    assert len(inputs) > 50
    before = methods.objects()
    replay(methods, inputs)
    # each began with the same store, although some have changed theirs
    assert methods.objects() == before
    assert methods.changes > 10
