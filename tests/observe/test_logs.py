"""Log lines: their two forms, and the facts that they carry through threads and coroutines."""

import asyncio
import json
import logging
import sys

import pytest

from api.observe import context
from api.observe.logs import Json, Text


def _record(message: str, *arguments: object, failed: bool = False) -> logging.LogRecord:
    why = None
    if failed:
        try:
            int("no\nluck")
        except ValueError:
            why = sys.exc_info()
    return logging.LogRecord("api.work", logging.INFO, __file__, 1, message, arguments, why)


def test_the_text_names_the_work_before_the_message() -> None:
    with context.bound(operation=17, job=9), context.bound(vm=4):
        line = Text().format(_record("%s begins", "vm_create"))
    assert line.endswith(" INFO api.work [operation=17 job=9 vm=4]: vm_create begins")
    assert Text().format(_record("idle")).endswith(" INFO api.work: idle")


def test_the_text_quotes_what_could_be_taken_for_something_else() -> None:
    with context.bound(account="A] operation=1\nINFO"):
        line = Text().format(_record("x"))
    assert line.endswith(r'[account="A] operation=1\nINFO"]: x')


def test_json_is_one_object_on_one_line() -> None:
    with context.bound(request="ab12", operation=17):
        text = Json().format(_record("two\nlines: %s", "é", failed=True))
    assert "\n" not in text
    line = json.loads(text)
    assert line["message"] == "two\nlines: é"
    assert (line["request"], line["operation"], line["level"], line["logger"]) == (
        "ab12",
        17,
        "INFO",
        "api.work",
    )
    assert line["time"].endswith("Z")
    assert "ValueError: invalid literal" in line["exception"]


def test_facts_follow_into_threads_and_what_is_noted_there_comes_back() -> None:
    seen: list[dict[str, object]] = []

    def in_thread() -> None:
        seen.append(dict(context.facts()))
        context.note(operation=2, vm=None)

    async def work(job: int) -> dict[str, object]:
        with context.bound(job=job, vm=1):
            await asyncio.sleep(0)
            await asyncio.to_thread(in_thread)
            return dict(context.facts())

    async def both() -> list[dict[str, object]]:
        return [*await asyncio.gather(work(1), work(2))]

    assert asyncio.run(both()) == [{"job": 1, "operation": 2}, {"job": 2, "operation": 2}]
    assert sorted(one["job"] for one in seen) == [1, 2]  # type: ignore[type-var] # they are numbers
    assert context.facts() == {}


def test_a_note_outside_of_all_work_is_forgotten() -> None:
    context.note(operation=1)
    assert context.facts() == {}


@pytest.mark.parametrize("fact", [None, 5])
def test_a_block_does_not_change_the_one_around_it(fact: int | None) -> None:
    with context.bound(vm=1):
        with context.bound(job=2):
            context.note(vm=fact)
        assert context.facts() == {"vm": 1}
