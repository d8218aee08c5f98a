"""A domain's life, on machines that hear no message."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import cast

import libvirt
import pytest

from hypervisor.connection import Connection
from hypervisor.domain import power
from hypervisor.domain.power import State
from hypervisor.domain.spec import DomainSpec
from hypervisor.events import Kind
from hypervisor.libvirt_errors import Busy, LibvirtError, NoDomain
from tests.domain.conftest import NewSpec, Seen

pytestmark = pytest.mark.lab

ABSENT = "00000000-0000-4000-8000-000000000000"
FOREIGN = """
    <domain type='qemu'><name>{}</name><uuid>{}</uuid><memory>65536</memory><os><type>hvm</type></os></domain>
"""


def test_define_again_is_an_update(connection: libvirt.virConnect, machine: DomainSpec) -> None:
    changed = replace(machine, memory=100, labels={"vm": "2", "more": "x"})
    power.define(connection, changed)
    power.define(connection, changed)
    assert power.read(connection, machine.uuid) == changed
    assert power.labels(connection, machine.uuid) == changed.labels


@pytest.mark.parametrize("same", ["name", "uuid", "both"])
def test_a_foreign_domain_is_left_alone(connection: libvirt.virConnect, new_spec: NewSpec, same: str) -> None:
    spec, other = new_spec(), new_spec()
    name = other.name if same == "uuid" else spec.name
    uuid = other.uuid if same == "name" else spec.uuid
    foreign = connection.defineXML(FOREIGN.format(name, uuid))
    before = foreign.XMLDesc()
    with pytest.raises(LibvirtError, match=r"already exists with uuid|is not ours"):
        power.define(connection, spec)
    assert foreign.XMLDesc() == before
    assert power.labels(connection, uuid) == {}
    assert uuid not in power.states(connection)


class Unborn:
    """A domain as a libvirtd has it whose predecessor was killed at the right moment of its start."""

    def lookupByUUIDString(self, _uuid: str) -> "Unborn":  # noqa: N802  # libvirt's name
        return self

    def name(self) -> str:
        return "unborn"

    def state(self) -> list[int]:
        return [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP]

    def isActive(self) -> bool:  # noqa: N802
        return True

    def destroyFlags(self, _flags: int) -> None:  # noqa: N802
        error = libvirt.libvirtError("")
        error.err = (libvirt.VIR_ERR_OPERATION_TIMEOUT, libvirt.VIR_FROM_QEMU, "state change lock")
        raise error


def test_a_domain_that_libvirt_never_lets_go_of() -> None:
    with pytest.raises(Busy, match=r"Stop libvirtd, remove /run/libvirt/qemu/unborn\.xml"):
        power.cut_off(cast(libvirt.virConnect, Unborn()), ABSENT)


def test_one_life(connection: libvirt.virConnect, machine: DomainSpec, seen: Seen) -> None:
    uuid = machine.uuid

    def is_now(state: State) -> None:
        assert power.state(connection, uuid) is power.states(connection)[uuid] is state

    is_now(State.OFF)
    power.start(connection, uuid)
    # libvirt starts a machine paused and lets it go
    assert [seen.next(), seen.next()] == [Kind.RESUMED, Kind.STARTED]
    power.start(connection, uuid)
    is_now(State.RUNNING)
    power.lookup(connection, uuid).suspend()
    assert seen.next() is Kind.SUSPENDED
    is_now(State.PAUSED)
    power.start(connection, uuid)
    assert seen.next() is Kind.RESUMED
    is_now(State.RUNNING)
    power.reset(connection, uuid)
    assert seen.next() is Kind.REBOOT
    power.cut_off(connection, uuid)
    while (kind := seen.next()) in (Kind.REBOOT, Kind.SHUTDOWN):
        pass  # one reset may be told twice, and QEMU tells of its signal
    assert kind is Kind.STOPPED
    power.cut_off(connection, uuid)
    is_now(State.OFF)
    power.undefine(connection, uuid)
    assert seen.next() is Kind.UNDEFINED
    power.undefine(connection, uuid)
    assert power.state(connection, uuid) is State.ABSENT
    assert uuid not in power.states(connection)
    assert seen.empty


def test_messages_return_at_once(connection: libvirt.virConnect, machine: DomainSpec, seen: Seen) -> None:
    power.start(connection, machine.uuid)
    assert [seen.next(), seen.next()] == [Kind.RESUMED, Kind.STARTED]
    for message in (power.request_shutdown, power.request_reboot, power.request_shutdown):
        power.lookup(connection, machine.uuid).suspend()
        assert seen.next() is Kind.SUSPENDED
        begun = time.monotonic()
        message(connection, machine.uuid)
        assert time.monotonic() - begun < 1
        assert seen.next() is Kind.RESUMED
    assert power.state(connection, machine.uuid) is State.RUNNING


def test_undefine_while_running(connection: libvirt.virConnect, machine: DomainSpec) -> None:
    power.start(connection, machine.uuid)
    power.undefine(connection, machine.uuid)
    assert power.state(connection, machine.uuid) is State.ABSENT


def test_what_runs_without_a_definition(connection: libvirt.virConnect, machine: DomainSpec) -> None:
    power.start(connection, machine.uuid)
    power.lookup(connection, machine.uuid).undefine()
    assert power.state(connection, machine.uuid) is State.RUNNING
    power.undefine(connection, machine.uuid)
    assert power.state(connection, machine.uuid) is State.ABSENT


def test_a_machine_whose_process_was_killed(
    connection: libvirt.virConnect, machine: DomainSpec, seen: Seen
) -> None:
    power.start(connection, machine.uuid)
    pid = Path(f"/run/libvirt/qemu/{machine.name}.pid").read_text()
    os.kill(int(pid), signal.SIGKILL)
    while seen.next() is not Kind.STOPPED:
        pass
    assert power.state(connection, machine.uuid) is State.OFF
    power.start(connection, machine.uuid)


@pytest.mark.parametrize(
    "message", [power.request_shutdown, power.request_reboot, power.reset]
)  # fmt: skip
def test_messages_to_a_machine_that_is_off(
    connection: libvirt.virConnect, machine: DomainSpec, message: Callable[..., None]
) -> None:
    with pytest.raises(LibvirtError, match=f"domain {machine.name}: .*not running"):
        message(connection, machine.uuid)


def test_an_absent_domain(connection: libvirt.virConnect) -> None:
    for call in (
        power.start,
        power.request_shutdown,
        power.request_reboot,
        power.reset,
        power.read,
        power.labels,
    ):
        with pytest.raises(NoDomain, match=f"domain {ABSENT}"):
            call(connection, ABSENT)
    power.cut_off(connection, ABSENT)
    power.undefine(connection, ABSENT)
    assert power.state(connection, ABSENT) is State.ABSENT


def test_the_same_from_many_threads(connection: libvirt.virConnect, machine: DomainSpec) -> None:
    for call, state in (
        (power.start, State.RUNNING),
        (power.cut_off, State.OFF),
        (power.undefine, State.ABSENT),
    ):
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda _, call=call: call(connection, machine.uuid), range(6)))
        assert power.state(connection, machine.uuid) is state


def test_states_never_gives_a_part(connection: libvirt.virConnect, new_spec: NewSpec) -> None:
    """Domains that come and go meanwhile are no error, and the others are all there."""
    lasting = [new_spec() for _ in range(20)]
    for spec in lasting:
        power.define(connection, spec)
    passing = new_spec()

    def come_and_go(_number: int) -> None:
        power.define(connection, passing)
        power.undefine(connection, passing.uuid)

    with ThreadPoolExecutor(1) as pool:
        going = [pool.submit(come_and_go, number) for number in range(30)]
        while not all(one.done() for one in going):
            assert {spec.uuid for spec in lasting} <= power.states(connection).keys()
        for one in going:
            one.result()


def test_a_coroutine_watches(
    lasting: Connection, connection: libvirt.virConnect, machine: DomainSpec
) -> None:
    async def watch() -> list[Kind]:
        kinds: list[Kind] = []
        with lasting.events.watching(machine.uuid) as watch:
            await asyncio.to_thread(power.start, connection, machine.uuid)
            await asyncio.to_thread(power.reset, connection, machine.uuid)
            await asyncio.to_thread(power.cut_off, connection, machine.uuid)
            while (event := await watch.next(5)) is not None and event.kind is not Kind.STOPPED:
                if event.kind is not Kind.DEFINED:  # still on its way from before
                    kinds.append(event.kind)
            assert await watch.next(0.05) is None
        return kinds

    assert asyncio.run(watch())[:3] == [Kind.RESUMED, Kind.STARTED, Kind.REBOOT]
