"""What of a call is noted, and what is not."""

import xmlrpc.client
from datetime import datetime
from typing import Any

import pytest

from api.coverage.recording import Seen
from api.methods.faults import Fault, internal_error
from tests.coverage.recorder import Recorder

SERVICE = "http://127.0.0.1:1/"


def called(
    recorder: Recorder, name: str, *arguments: Any, answer: Any, service: str | None = SERVICE
) -> Seen:
    """What is noted of the method after a call with this answer."""
    assert recorder.watched(name, arguments, lambda: answer, service) is answer
    return recorder.recording.of(name.replace("vm.", "hosting.vm.") if name.startswith("vm.") else name)


def operation(identifier: int, step: str = "WAIT") -> dict[str, Any]:
    """An operation as far as the recorder looks at it."""
    return {"id": identifier, "step": step}


def test_names_types_and_paths() -> None:
    answer = [{"id": 3, "date_created": datetime.fromisoformat("2013-01-01"), "farm": "", "disks_id": [1]}]
    seen = called(Recorder(), "vm.list", {"id": [1, 2], "~hostname": "w"}, answer=answer)
    assert seen.names == {"vm.list"}
    assert seen.parameters == {
        "opts": {"struct"},
        "opts.id": {"array"},
        "opts.id[]": {"int"},
        "opts.~hostname": {"string"},
    }
    assert seen.answer == {
        "": {"array"},
        "[]": {"struct"},
        "[].id": {"int"},
        "[].date_created": {"dateTime.iso8601"},
        "[].farm": {"empty"},
        "[].disks_id": {"array"},
        "[].disks_id[]": {"int"},
    }


def test_types_add_up() -> None:
    recorder = Recorder()
    called(recorder, "hosting.vm.count", None, answer=1)
    assert called(recorder, "hosting.vm.count", {}, answer=True).answer == {"": {"int", "boolean"}}
    assert recorder.recording.of("hosting.vm.count").parameters == {"opts": {"nil", "struct"}}


def test_values_of_enumerations_and_no_others() -> None:
    answer = {"state": "running", "hostname": "running", "disks": [{"type": "snapshot"}, {"type": "secret"}]}
    assert called(Recorder(), "hosting.vm.info", 1, answer=answer).values == {
        "state": {"running"},
        "disks[].type": {"snapshot"},
    }


def test_values_prove_nothing_without_a_service_or_in_a_filter() -> None:
    recorder = Recorder()
    assert called(recorder, "hosting.vm.info", 1, answer={"state": "running"}, service=None).values == {}
    assert called(recorder, "hosting.vm.list", {"state": "running"}, answer=[]).values == {}


def test_the_keys_of_a_command_line_are_not_noted() -> None:
    seen = called(Recorder(), "hosting.disk.info", 1, answer={"kernel_cmdline": {"secret": True}})
    assert set(seen.answer) == {"", "kernel_cmdline"}


@pytest.mark.parametrize("service", [SERVICE, None])
def test_a_fault_accepts_nothing(service: str | None) -> None:
    def refuse() -> None:
        raise xmlrpc.client.Fault(530242, "no")

    recorder = Recorder()
    with pytest.raises(xmlrpc.client.Fault):
        recorder.watched("hosting.vm.info", [7], refuse, service)
    seen = recorder.recording["hosting.vm.info"]
    assert (seen.faults, seen.parameters, seen.answer) == ({530242}, {}, {})


def test_the_servers_own_fault_says_nothing_of_a_method() -> None:
    def fail() -> None:
        raise internal_error()

    recorder = Recorder()
    with pytest.raises(Fault):
        recorder.watched("hosting.vm.info", [7], fail, SERVICE)
    assert recorder.recording == {}


def test_a_dry_run_accepts_nothing() -> None:
    recorder = Recorder()
    recorder.watched("hosting.vm.update", [1, {"cores": 2, "--dry-run": True}], list, SERVICE)
    assert recorder.recording == {}


def test_a_method_that_there_is_not() -> None:
    recorder = Recorder()
    recorder.watched("hosting.vm.explode", [1], list, SERVICE)
    assert recorder.recording == {}


def test_a_call_is_carried_out_when_its_last_operation_is_done() -> None:
    recorder = Recorder()
    made = called(recorder, "hosting.vm.create", {"cores": 1}, answer=[operation(1), operation(2)])
    called(recorder, "operation.info", 1, answer=operation(1, "DONE"))
    called(recorder, "operation.info", 2, answer=operation(2, "RUN"))
    assert made.carried == set()
    called(recorder, "operation.info", 2, answer=operation(2, "DONE"))
    assert made.carried == {"vm_spec", "vm_spec.cores"}


@pytest.mark.parametrize("step", ["ERROR", "CANCEL"])
def test_a_call_that_failed_is_not_carried_out(step: str) -> None:
    recorder = Recorder()
    seen = called(recorder, "hosting.vm.stop", 1, answer=operation(5))
    called(recorder, "operation.info", 5, answer=operation(5, step))
    assert seen.carried == set()


def test_operations_of_two_services_are_told_apart() -> None:
    recorder = Recorder()
    seen = called(recorder, "hosting.vm.stop", 1, answer=operation(5))
    called(recorder, "operation.info", 5, answer=operation(5, "DONE"), service="http://127.0.0.1:2/")
    called(recorder, "operation.info", 5, answer=operation(5, "DONE"), service=None)
    assert seen.carried == set()
