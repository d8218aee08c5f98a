"""Whatever value the wire can carry: a method answers, or ends in a fault, and never in anything else."""

import shutil
import xmlrpc.client
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.methods import table
from api.methods.faults import Fault
from api.store.database import Store
from tests.methods.world import ALICE, World, fill

# what the wire's texts may consist of: the characters of XML 1.0
TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff").filter(
        lambda one: one >= " " or one in "\t\n\r"
    ),
    max_size=30,
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**31), 2**31 - 1)
    | st.integers(0, 4)
    | st.integers()
    | st.floats()
    | TEXTS
    | st.binary(max_size=30)
    | st.datetimes()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
# values that some parameter takes
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
NUMBERS = [0, 1, 2, 4, 6, 64, 512, 1024, 102400.0, True, False]
NAMES = [
    "",
    "*",
    "4",
    "6",
    "data",
    "snapshot",
    "web.example.net",
    "read",
    "id ASC",
    "2013-01-01",
    "grub",
    KEY,
]
OTHERS = [datetime.fromisoformat("2013-01-01"), [], {}, [1], ["WAIT"]]
LIKELY: st.SearchStrategy[Any] = st.sampled_from([*NUMBERS, *NAMES, *OTHERS])


def struct(parameter: table.Parameter) -> st.SearchStrategy[Any]:
    """Structs with the parameter's own keys, half of the values likely ones."""
    schema = parameter.adapter.json_schema(by_alias=True)
    keys: set[str] = {"--dry-run"}
    for definition in (schema, *schema.get("$defs", {}).values()):
        keys |= set(definition.get("properties", {}))
    wrong = st.dictionaries(st.sampled_from(sorted(keys)) | TEXTS, LIKELY | VALUES, max_size=4)
    return st.dictionaries(st.sampled_from(sorted(keys)), LIKELY, max_size=6) | wrong


def arguments(entry: table.Method) -> st.SearchStrategy[list[Any]]:
    """Lists of arguments, now and then too many or too few."""
    fitting = st.tuples(*(struct(one) | LIKELY | VALUES for one in entry.parameters)).map(list)
    return st.one_of(fitting, fitting, fitting, st.lists(VALUES, max_size=4))


@pytest.fixture(scope="module")
def full(first_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A store with one or two of everything."""
    file = tmp_path_factory.mktemp("random") / "store.db"
    shutil.copyfile(first_store, file)
    store = Store(f"sqlite:///{file}")
    world = World(store)
    fill(world)
    yield world
    store.close()


def answer_or_fault(world: World, name: str, given: list[Any]) -> Any:
    """What the call ends in."""
    try:
        return world.dispatch(name, given, "192.0.2.1")
    except Fault as fault:
        return fault


@pytest.mark.parametrize("entry", table.every(), ids=lambda entry: entry.name)
def test_an_answer_or_a_fault(full: World, entry: table.Method) -> None:
    @settings(
        max_examples=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        derandomize=True,
        database=None,
    )
    @given(arguments(entry))
    def call(given: list[Any]) -> None:
        answer = answer_or_fault(full, entry.name, [ALICE, *given] if entry.takes_key else given)
        if isinstance(answer, Fault):
            assert answer.code == 1 or 500000 <= answer.code < 600000
            assert answer.code == 1 or answer.text.startswith("Error on object : OBJECT_")
        else:
            # every answer fits the wire format, with its 32-bit integers
            xmlrpc.client.dumps((answer,), methodresponse=True, allow_none=True)

    call()
