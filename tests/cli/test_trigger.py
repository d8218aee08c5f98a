"""``hypervisor vm trigger``: made, listed, deleted, and what is refused with the next step."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import select

from api.cli import cli
from api.cli.settings import load
from api.operations.triggers import DATASOURCES
from api.service import make_folders, open_store
from api.store.database import Store
from api.store.models import Disk, Vm, VmTrigger


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The records that the commands work on: the VM 1 with two disks, and VMs that cannot be watched."""
    monkeypatch.setenv("HYPERVISOR_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "120")
    make_folders(load())
    with closing(open_store(load())) as store:
        with store.writing() as session:
            for number, state in enumerate(("running", "deleted", "being_created"), 1):
                session.add(
                    Vm(account_id=1, datacenter_id=1, uuid=str(number), hostname="web", cores=1, memory=512,
                       vm_max_memory=512, seed={}, state=state)
                )  # fmt: skip
            session.flush()
            for position in (0, 2):
                session.add(
                    Disk(account_id=1, datacenter_id=1, name="disk", size=1024, volume="disk", vm_id=1,
                         position=position)
                )  # fmt: skip
        yield store


def ask(*arguments: str) -> tuple[int, str]:
    """The status of ``hypervisor vm trigger`` and all that it says."""
    result = CliRunner().invoke(cli, ["vm", "trigger", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def made(store: Store) -> list[VmTrigger]:
    with store.reading() as session:
        return list(session.scalars(select(VmTrigger).order_by(VmTrigger.id)))


def test_what_is_given_is_kept(store: Store) -> None:
    status, said = ask(
        "add", "1", "vbd.bytes.all", "--device", "2", "--min", "5", "--max", "900",
        "--duration", "60", "--recovery-duration", "0",
    )  # fmt: skip
    assert (status, said) == (0, "trigger 1 watches vbd.bytes.all of vm 1\n")
    (trigger,) = made(store)
    assert (trigger.vm_id, trigger.datasource) == (1, "vbd.bytes.all")
    assert (trigger.device_type, trigger.device_number) == ("disk", 2)
    assert (trigger.min_value, trigger.max_value) == (5, 900)
    assert (trigger.duration, trigger.recovery_duration) == (60, 0)


def test_what_is_left_out(store: Store) -> None:
    assert ask("add", "1", "vcpu.time.used", "--max", "90")[0] == 0
    (trigger,) = made(store)
    assert (trigger.device_type, trigger.device_number) == ("cpu", 0)
    assert (trigger.min_value, trigger.max_value) == (None, 90)
    assert (trigger.duration, trigger.recovery_duration) == (300, 300)


def test_the_list_shows_them_and_a_deleted_one_is_gone(store: Store) -> None:
    assert ask("list", "1") == (
        0, "vm 1 has no triggers: hypervisor vm trigger add --help says how to make one\n",
    )  # fmt: skip
    ask("add", "1", "vcpu.time.used", "--max", "90", "--duration", "77")
    ask("add", "1", "vbd.bytes.read", "--device", "2", "--min", "1", "--max", "9")
    ask("add", "1", "vbd.bytes.write", "--min", "3")
    status, said = ask("list", "1")
    rows = [[cell.strip() for cell in row.split("│")[1:-1]] for row in said.splitlines() if "│" in row]
    dates = [str(one.date_created) for one in made(store)]
    assert status == 0
    assert rows == [
        ["1", "vcpu.time.used", "processors", "to 90", "77", "300", dates[0]],
        ["2", "vbd.bytes.read", "disk 2", "1 to 9", "300", "300", dates[1]],
        ["3", "vbd.bytes.write", "disk 0", "from 3", "300", "300", dates[2]],
    ]
    assert ask("delete", "2") == (0, "trigger 2 is deleted\n")
    assert [one.id for one in made(store)] == [1, 3]
    assert ask("delete", "2") == (1, "Error: there is no trigger 2: see hypervisor vm trigger list VM_ID\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("1 vcpu.time.used", "a trigger needs a bound: give --min, --max or both"),
        ("1 vcpu.time.used --min 9 --max 8", "no value is well: --min 9 is above --max 8"),
        ("7 vcpu.time.used --max 1", "there is no vm 7: hosting.vm.list shows its owner the ids"),
        ("2 vcpu.time.used --max 1", "vm 2 is deleted and has no triggers: name another one"),
        ("3 vcpu.time.used --max 1", "vm 3 is being_created and has no triggers: wait until it is created"),
        ("1 vcpu.time.used --max 1 --device 1", "no processors with the number 1: use --device 0"),
        ("1 vbd.bytes.all --max 1 --device 1", "no disk with the number 1: use --device 0 or 2"),
        ("1 vif.bytes.all --max 1", "vm 1 has no interface with the number 0: attach one first"),
        ("1 vram.bytes.used --max 1", "'vram.bytes.used' is not one of 'vbd.bytes.all'"),
        ("1 vcpu.time.used --min 0", "Invalid value for '--min': 0 is not in the range"),
        ("1 vcpu.time.used --max 2147483647", "Invalid value for '--max': 2147483647 is not in the range"),
        ("1 vcpu.time.used --max 1 --duration 3601", "Invalid value for '--duration'"),
        ("1 vcpu.time.used --max 1 --recovery-duration -1", "Invalid value for '--recovery-duration'"),
    ],
)
def test_refusals_say_what_to_do(store: Store, arguments: str, said: str) -> None:
    status, text = ask("add", *arguments.split())
    assert status != 0
    assert said in text
    assert made(store) == []


@pytest.mark.usefixtures("store")
def test_the_triggers_of_no_vm_cannot_be_listed() -> None:
    assert ask("list", "7") == (1, "Error: there is no vm 7: hosting.vm.list shows its owner the ids\n")


def test_the_help_names_every_datasource() -> None:
    status, said = ask("add", "--help")
    assert status == 0
    named = set()
    for line in said.splitlines():
        first, *others = line.strip().partition("  ")[0].replace(" or", ",").split(", ")
        metric = first.rpartition(".")[0]
        named |= {first, *(f"{metric}{other}" for other in others)}
    assert set(DATASOURCES) <= named
