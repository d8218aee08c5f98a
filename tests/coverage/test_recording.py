"""Recordings: kept as sorted text, laid together, compared."""

from pathlib import Path

import pytest

from api.coverage.claims import claimed_beyond
from api.coverage.recording import Recording, RecordingError, Seen, load, parse
from tests.coverage.whole import compare, keep


def stop(**seen: object) -> Recording:
    """A recording of hosting.vm.stop."""
    return Recording({"hosting.vm.stop": Seen(**seen)})  # type: ignore[arg-type]


FULL = stop(
    names={"vm.stop", "hosting.vm.stop"},
    faults={530260, 530242},
    carried={"vm_id"},
    parameters={"vm_id": {"int"}},
    values={"step": {"WAIT"}, "access": {"read/write", "read"}},
    answer={"": {"struct"}, "last_error": {"nil", "string"}},
)


def test_what_is_written_is_read() -> None:
    assert parse(FULL.dump()) == FULL
    assert parse(Recording().dump()) == Recording()


def test_the_text_is_sorted() -> None:
    text = FULL.dump()
    assert '"faults": "530242, 530260"' in text
    assert '"values": {\n   "": "access: read|read/write; step: WAIT"' in text


def test_laid_together() -> None:
    both = stop(faults={530242}, answer={"": {"struct"}}).merge(
        stop(faults={530260}, answer={"": {"nil"}, "id": {"int"}}).merge(Recording({"a": Seen()}))
    )
    assert both["hosting.vm.stop"] == Seen(
        faults={530242, 530260}, answer={"": {"struct", "nil"}, "id": {"int"}}
    )
    assert "a" in both


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ({"names": {"vm.stop"}}, "called as vm.stop"),
        ({"faults": {530260}}, "fault 530260"),
        ({"carried": {"vm_id"}}, "parameter vm_id: operation DONE"),
        ({"parameters": {"vm_id": {"int"}}}, "parameter vm_id: int"),
        ({"values": {"access": {"read"}}}, "value of access: read"),
        ({"answer": {"": {"struct"}}}, "answer (all of it): struct"),
        ({"answer": {"last_error": {"string"}}}, "answer last_error: string"),
    ],
)
def test_every_claim_is_compared(part: dict[str, object], line: str) -> None:
    assert claimed_beyond(stop(**part), FULL) == []
    assert claimed_beyond(stop(**part), Recording()) == [f"hosting.vm.stop: {line}"]


def test_a_value_may_be_seen_wherever_its_enumeration_is() -> None:
    listed = Recording({"operation.list": Seen(values={"[].type": {"vm_stop"}})})
    assert claimed_beyond(listed, stop(values={"type": {"vm_stop"}})) == []
    assert claimed_beyond(listed, stop(values={"state": {"vm_stop"}})) == ["value of OperationType: vm_stop"]


def test_another_enumeration_under_the_same_key_is_none() -> None:
    disk = Recording({"hosting.disk.info": Seen(values={"state": {"created"}})})
    ip = Recording({"hosting.ip.info": Seen(values={"state": {"created"}})})
    assert claimed_beyond(disk, ip) == ["value of DiskState: created"]
    assert claimed_beyond(disk, disk) == []


@pytest.mark.parametrize(
    "part",
    [
        {"answer": {"farm": {"nil"}}},
        {"answer": {"farm": {"empty"}}},
        {"values": {"state": {"being_created"}}},
    ],
)
def test_what_chance_decides_is_no_claim(part: dict[str, object]) -> None:
    assert claimed_beyond(stop(**part), Recording()) == []


@pytest.mark.parametrize("text", ["", "[]", "{}x", '{"a": {}}', '{"a": 1}'])
def test_a_file_that_is_no_recording(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(RecordingError, match="make test"):
        load(tmp_path / "file")


def test_a_whole_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "kept"
    pieces = tmp_path / "pieces"
    pieces.mkdir()
    (pieces / "1.json").write_text(stop(parameters={"vm_id": {"int"}}).dump())
    (pieces / "2.json").write_text(stop(answer={"": {"struct"}}).dump())
    seen = keep(pieces, kept)
    assert load(kept) == seen == stop(parameters={"vm_id": {"int"}}, answer={"": {"struct"}})
    assert compare(seen, seen) == 0
    assert capsys.readouterr().out == ""
    assert compare(FULL, seen) == 1
    said = capsys.readouterr().out
    assert "claimed, but not seen: hosting.vm.stop: fault 530260\n" in said
    assert "make coverage" in said
    assert compare(Recording(), seen) == 0
    assert "not claimed yet (2)" in capsys.readouterr().out
