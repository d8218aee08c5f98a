"""Counters of real domains, one of them stuck, beside two hundred of libvirt's test driver."""

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import libvirt
import pytest

from api.operations.sampler import Rates, Sampler
from api.store.database import Store
from api.store.models import Account, Datacenter, Vm
from api.store.schema import upgrade
from api.store.statistics import Statistics
from hypervisor.connection import Connection
from hypervisor.domain import power
from hypervisor.domain.counters import DomainCounters
from hypervisor.domain.spec import DiskSpec, DomainSpec, InterfaceSpec
from hypervisor.domain.statistics import Reader
from hypervisor.libvirt_errors import Unavailable
from tests.methods.world import datacenter
from tests.service.waiting import until

pytestmark = pytest.mark.lab

URI = "qemu:///system"
TEST_DOMAIN = """
    <domain type='test'><name>t{0}</name><uuid>{1}</uuid><memory>65536</memory><os><type>hvm</type></os>
    <metadata><h:labels xmlns:h='urn:hypervisor:domain:1' vm='{0}'/></metadata></domain>
"""
TEST_NODE = """
    <cpu><mhz>1</mhz><model>x</model><active>2</active><nodes>1</nodes><sockets>1</sockets><cores>2</cores>
    <threads>1</threads></cpu><memory>99999999</memory>
"""


@pytest.fixture(scope="module")
def defined(
    lasting: Connection, network: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[DomainSpec]]:
    """Five domains, each with a disk and an interface."""
    connection = lasting.handle(wait=10)
    folder = tmp_path_factory.mktemp("disks")
    specs = []
    for number in range(5):
        disk = folder / f"{number}.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "16M"], check=True)
        disk.chmod(0o666)
        spec = DomainSpec(
            str(uuid.uuid4()), f"statistics-{number}", vcpus=1, max_vcpus=2, memory=64, max_memory=128,
            accelerated=False, labels={"vm": "1"},
            disks=(DiskSpec(f"ua-disk-{number}", disk, "vda"),),
            interfaces=(InterfaceSpec(f"ua-iface-{number}", f"52:54:00:00:02:{number:02x}", network),),
        )  # fmt: skip
        power.define(connection, spec)
        specs.append(spec)
    yield specs
    for spec in specs:
        power.undefine(connection, spec.uuid)


@pytest.fixture
def five(connection: libvirt.virConnect, defined: list[DomainSpec]) -> list[DomainSpec]:
    """The five, running."""
    for spec in defined:
        power.start(connection, spec.uuid)
    return defined


def qemu(spec: DomainSpec) -> int:
    return int(Path(f"/run/libvirt/qemu/{spec.name}.pid").read_text())


@contextmanager
def stopped(*specs: DomainSpec) -> Iterator[None]:
    """The QEMUs of `specs` stopped in the middle of whatever they do."""
    pids = [qemu(one) for one in specs]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@pytest.fixture
def many(tmp_path: Path) -> tuple[str, set[str]]:
    """A libvirt of two hundred domains that take no processor, and their UUIDs."""
    uuids = [str(uuid.uuid4()) for _ in range(200)]
    domains = "".join(TEST_DOMAIN.format(number, one) for number, one in enumerate(uuids))
    file = tmp_path / "node.xml"
    file.write_text(f"<node>{domains}{TEST_NODE}</node>")
    return f"test://{file}", set(uuids)


def test_a_stuck_qemu_costs_the_others_nothing(five: list[DomainSpec], many: tuple[str, set[str]]) -> None:
    uri, uuids = many
    crowd, few = Reader(uri), Reader(URI)
    asked = {one.uuid for one in five}
    rates = Rates(every=1)
    assert {one.uuid for one in few.read(asked)} == asked
    with stopped(five[2]):
        for round_ in range(5):
            began = time.monotonic()
            found = [*crowd.read(uuids), *few.read(asked)]
            took = time.monotonic() - began
            print(f"round {round_}: {took * 1000:.0f} ms for {len(found)} domains")
            assert took < 1
            assert {one.uuid for one in found} == uuids | asked
            answered = {one.uuid for one in found if one.answered}
            assert answered == (uuids | asked) - {five[2].uuid}
            for number, spec in enumerate(five):
                (one,) = (each for each in found if each.uuid == spec.uuid)
                assert [each.alias for each in one.interfaces] == [f"ua-iface-{number}"]
                assert [each.alias for each in one.disks] == ([] if number == 2 else [f"ua-disk-{number}"])
                fresh = rates.take(time.time(), number + 1, one)
                assert ("vbd.bytes" in {source.metric for source, _ in fresh}) == (number != 2 and round_ > 0)
        # on a busy machine a question to the others may have been given up too
        until(lambda: few.unanswered == 1, 10, "one question is left")
    # the question that was left alone ends with the QEMU that it waited for
    until(lambda: few.unanswered == 0, 10, "the forgotten question is answered")
    assert all(one.answered for one in few.read(asked))


def test_two_that_get_stuck_together(five: list[DomainSpec]) -> None:
    reader = Reader(URI)
    asked = {one.uuid for one in five}
    reader.read(asked)
    with stopped(five[0], five[4]):
        for _ in range(3):
            began = time.monotonic()
            found = reader.read(asked)
            assert time.monotonic() - began < 1
            assert {one.uuid for one in found if one.answered} == asked - {five[0].uuid, five[4].uuid}
    until(lambda: reader.unanswered == 0, 10, "the forgotten questions are answered")


def test_a_stuck_qemu_can_still_be_cut_off(connection: libvirt.virConnect, five: list[DomainSpec]) -> None:
    reader = Reader(URI)
    asked = {one.uuid for one in five}
    with stopped(five[1]):
        reader.read(asked)
        until(lambda: reader.unanswered == 1, 10, "one question is left")
        power.cut_off(connection, five[1].uuid)
    until(lambda: reader.unanswered == 0, 10, "the question ends with its QEMU")
    assert {one.uuid for one in reader.read(asked)} == asked - {five[1].uuid}


def recorded(folder: Path, uuids: list[str]) -> tuple[Store, int]:
    """Records of running machines, and the id of their datacenter."""
    store = Store(f"sqlite:///{folder / 'store.db'}")
    upgrade(store)
    account = Account(handle="ALICE-GANDI")
    with store.writing() as session:
        place: Datacenter = datacenter("FR-SD5", "FR", "Bissy", "France")
        session.add_all([account, place])
        session.flush()
        for one in uuids:
            session.add(
                Vm(account_id=account.id, datacenter_id=place.id, uuid=one, hostname="web",
                   state="running", cores=1, memory=64, vm_max_memory=128, seed={})
            )  # fmt: skip
    return store, place.id


class Late(Reader):
    """A reader that gets an answer after some seconds: of one processor, which is always busy."""

    def __init__(self, uuid: str) -> None:
        super().__init__(URI)
        self.now, self.late = 1000.0, 0.0
        self._uuid = uuid

    def read(self, uuids: Collection[str]) -> list[DomainCounters]:
        assert list(uuids) == [self._uuid]
        self.now += self.late
        return [DomainCounters(self._uuid, 1, True, {0: int(self.now * 1e9)}, None, None, (), ())]


def test_an_answer_that_takes_long_makes_no_rate_too_high(tmp_path: Path) -> None:
    machine = str(uuid.uuid4())
    store, place = recorded(tmp_path, [machine])
    reader = Late(machine)
    statistics = Statistics(tmp_path / "statistics.db", every=1, clock=lambda: reader.now)
    sampler = Sampler(store, statistics, reader, [place], clock=lambda: reader.now)
    for second, late in ((1000, 0.4), (1001, 0.0), (1002, 0.5), (1003, 0.0)):
        reader.now, reader.late = float(second), late
        sampler.round()
    (series,) = statistics.read([1], "vcpu.time", 999, 1010).values()
    assert [point.value for point in series] == pytest.approx([1.0] * 3)
    statistics.close()
    store.close()


def test_a_round_of_the_sampler_with_all_of_them(
    five: list[DomainSpec], tmp_path: Path, connection: libvirt.virConnect
) -> None:
    """Halted, foreign and paused domains give no sample, running ones do; stopping takes no time."""
    # the fifth is somebody else's
    store, place = recorded(tmp_path, [spec.uuid for spec in five[:4]])
    power.suspend(connection, five[0].uuid)
    power.cut_off(connection, five[1].uuid)
    statistics = Statistics(tmp_path / "statistics.db", every=1)
    sampler = Sampler(store, statistics, Reader(URI), [place])
    sampler.start()
    try:
        with stopped(five[3]):
            until(
                lambda: statistics.fresh(3) >= {("vbd.bytes", 2), ("vif.bytes", 2)},
                10,
                "samples of the third",
            )
            until(lambda: ("vif.bytes", 3) in statistics.fresh(4), 10, "samples of the fourth's interface")
            assert ("vbd.bytes", 3) not in statistics.fresh(4)
            began = time.monotonic()
            sampler.stop()
            assert time.monotonic() - began < 1.5
        assert [statistics.fresh(vm_id) for vm_id in (1, 2, 5)] == [set(), set(), set()]
    finally:
        sampler.stop()
        statistics.close()
        store.close()


def test_a_libvirt_that_is_not_there() -> None:
    reader = Reader("qemu+unix:///system?socket=/nonexistent")
    with pytest.raises(Unavailable, match="is libvirtd running"):
        reader.read({"00000000-0000-4000-8000-000000000000"})
    assert reader.unanswered == 0
