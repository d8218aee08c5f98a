"""The page says what the recording holds, and the committed page is the one that it makes."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from api.cli.coverage import coverage
from api.coverage.page import page
from api.coverage.recording import Recording, committed, parse

WRITTEN = Path(__file__).parents[2] / "docs" / "coverage.md"


def lines(recording: Recording, section: str) -> list[str]:
    """The lines of a section of the page."""
    return page(recording).partition(f"### {section}\n")[2].partition("\n#")[0].splitlines()


def test_the_page_is_fresh() -> None:
    assert WRITTEN.read_text() == page(committed()), "run: hypervisor coverage > docs/coverage.md"


def test_a_field_that_is_no_longer_seen_is_absent() -> None:
    recording = committed()
    assert "| `hostname` | string | done |  |" in lines(recording, "VMReturn")
    for name, path in (("hosting.vm.info", "hostname"), ("hosting.vm.list", "[].hostname")):
        recording[name].answer.pop(path)
    assert "| `hostname` | string | **absent** |  |" in lines(recording, "VMReturn")
    assert page(recording) != page(committed())


def test_a_field_of_another_type_differs() -> None:
    recording = committed()
    recording["hosting.vm.info"].answer["hostname"] = {"int"}
    assert "| `hostname` | string | **differs** | int here |" in lines(recording, "VMReturn")


def test_a_parameter_that_was_never_accepted_is_absent() -> None:
    recording = committed()
    recording["hosting.vm.create_from"].parameters.pop("vm_spec.login")
    row = "| `login` | string | **absent** | taken, but tested nowhere |"
    assert row in lines(recording, "VMCreateFromDescription")
    assert row not in lines(committed(), "VMCreateFromDescription")


def test_without_a_recording_nothing_is_there() -> None:
    assert "\n0 of 17 methods of hosting.vm, 17 open (" in page(Recording())
    assert "| done |" not in page(Recording())


def test_the_same_recording_makes_the_same_page() -> None:
    assert page(parse(committed().dump())) == page(committed())


def ask(*arguments: str) -> tuple[int, str]:
    """The command's status and all that it says."""
    result = CliRunner().invoke(coverage, arguments)
    return result.exit_code, result.output


def test_the_command(tmp_path: Path) -> None:
    less = committed()
    less["hosting.vm.stop"].parameters.clear()
    less["hosting.vm.stop"].carried.clear()
    some, all_ = tmp_path / "some.json", tmp_path / "all.json"
    some.write_text(less.dump())
    all_.write_text(committed().dump())
    assert ask() == (0, page(committed()))
    assert ask("--recording", str(some)) == (0, page(less))
    assert ask("--recording", str(some), "--recording", str(all_)) == (0, page(committed()))
    assert ask("--merge", "--recording", str(some), "--recording", str(all_)) == (0, committed().dump())
    assert ask("--check", "--recording", str(all_)) == (0, "")
    status, said = ask("--check", "--recording", str(some))
    assert status == 1
    assert "claimed, but not seen: hosting.vm.stop: parameter vm_id: int\n" in said


@pytest.mark.parametrize("option", ["--check", "--merge"])
def test_the_command_without_a_recording(option: str) -> None:
    status, said = ask(option)
    assert status == 2
    assert "make test" in said


def test_the_command_with_a_file_that_is_no_recording(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    status, said = ask("--recording", str(tmp_path / "file"))
    assert status == 1
    assert "is no recording" in said
