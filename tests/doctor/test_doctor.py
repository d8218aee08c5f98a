"""``hypervisor doctor`` finds what was really broken, names the command, and leaves nothing behind."""

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from ipaddress import IPv4Interface
from pathlib import Path

import libvirt
import pytest

from api.cli.doctor import house
from api.cli.doctor.command import examine
from api.operations.host import network_spec
from api.settings import Settings
from hypervisor import network
from hypervisor.doctor import Finding, Level, networks, trial
from hypervisor.network import bridge
from tests.conftest import NewService
from tests.service.host import Host
from tests.service.process import ROOT, Service
from tests.service.waiting import until

pytestmark = pytest.mark.guest


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory, host: Host) -> Iterator[Service]:
    """A service that has things broken around it, and is put right after each test."""
    service = Service(tmp_path_factory.mktemp("patient"), host)
    try:
        yield service.start()
    finally:
        service.dispose()


def settings(service: Service, listen: str | None = None) -> Settings:
    """As the service has them."""
    return Settings(
        state=service.state,
        acceleration="tcg",
        listen=listen or f"127.0.0.1:{service.port}",
        datacenters=service.datacenters,
    )


def command(environment: dict[str, str], *options: str) -> "subprocess.CompletedProcess[str]":
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-m", "api.cli", "doctor", *options],
        cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def problem(service: Service, subject: str, listen: str | None = None) -> Finding:
    """The one problem that a look finds."""
    found = [one for one in examine(settings(service, listen), trials=False) if one.level is Level.PROBLEM]
    assert [one.subject for one in found] == [subject], found
    return found[0]


def mended(service: Service, found: Finding) -> None:
    """Run the command that was named, as it was named; then nothing is wrong any more."""
    # inside the lab already: only the way into it is left out
    command = found.mend.replace(f"hypervisor lab enter --name {os.environ['HYPERVISOR_LAB']} -- ", "")
    subprocess.run(["/bin/sh", "-c", command], check=True, capture_output=True)
    healthy(service)


def healthy(service: Service) -> None:
    """Nothing is wrong."""
    found = examine(settings(service), trials=False)
    assert [one for one in found if one.level is Level.PROBLEM] == []


def test_a_healthy_host_with_trials(patient: Service) -> None:
    before = patient.inventory()
    one = patient.datacenters[0]
    environment = patient.environment | {
        "HYPERVISOR_LISTEN": f"127.0.0.1:{patient.port}",
        # one boot is enough
        "HYPERVISOR_DATACENTERS": json.dumps([one.model_dump()]),
    }
    done = command(environment, "--json")
    found = {finding["subject"]: finding for finding in json.loads(done.stdout)}
    assert [finding for finding in found.values() if finding["level"] == "problem"] == []
    assert done.returncode == 0
    assert "machine booted" in found[f"trial on {one.pool}"]["text"]
    assert "was given" in found[f"DHCP {one.network}"]["text"]
    assert found[f"address 127.0.0.1:{patient.port}"]["text"] == "the service answers"
    patient.settled(before)
    assert nothing_left(patient)


def nothing_left(service: Service) -> bool:
    """Whether no domain, volume, cable or reservation of a doctor is there."""
    connection = service.host.connection
    kept = [
        entry.mac
        for one in service.datacenters
        for entry in network.reservations(connection, one.network)
        if not entry.mac.startswith("52:54")
    ]
    return (
        not any(one.name().startswith(trial.PREFIX) for one in connection.listAllDomains())
        and not list(service.pools.glob(f"*/{trial.PREFIX}*"))
        and not bridge.interface_exists("hvdoctor0")
        and not kept
    )


@pytest.mark.long
def test_a_killed_one_leaves_no_domain_and_the_next_one_cleans_up(patient: Service, host: Host) -> None:
    killed = subprocess.Popen(
        [sys.executable, "-m", "api.cli", "doctor"],
        cwd=ROOT, env=patient.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    pool = patient.datacenters[0].pool
    name = f"{trial.PREFIX}-{pool}"

    def there() -> bool:
        return any(one.name() == name for one in host.connection.listAllDomains())

    try:
        until(there, 60, "the trial's domain is there")
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait(10)
    until(lambda: not there(), 20, "libvirt has destroyed the domain")
    assert list(patient.pools.glob(f"*/{trial.PREFIX}*"))
    done = trial.run(host.connection, pool, None, b"", accelerated=False)
    assert done.level is Level.OK, done
    assert nothing_left(patient)


@pytest.mark.long
def test_a_stopped_pool(patient: Service, host: Host) -> None:
    pool = patient.datacenters[0].pool
    host.connection.storagePoolLookupByName(pool).destroy()
    found = problem(patient, f"pool {pool}")
    assert f"pool-start {pool}" in found.mend
    mended(patient, found)


def test_a_stopped_network(patient: Service, host: Host) -> None:
    name = patient.datacenters[1].network
    host.connection.networkLookupByName(name).destroy()
    found = problem(patient, f"network {name}")
    assert f"net-start {name}" in found.mend
    mended(patient, found)


@pytest.mark.long
def test_a_bridge_that_was_deleted(patient: Service) -> None:
    one = patient.datacenters[1]
    subprocess.run(["ip", "link", "delete", one.bridge], check=True)
    found = problem(patient, f"network {one.network}")
    assert f"bridge {one.bridge} is gone" in found.text
    mended(patient, found)


@pytest.mark.long
def test_a_bridge_without_its_address(patient: Service) -> None:
    one = patient.datacenters[0]
    subprocess.run(["ip", "address", "del", one.ipv4, "dev", one.bridge], check=True)
    found = problem(patient, f"network {one.network}")
    assert one.ipv4 in found.text
    mended(patient, found)


@pytest.mark.parametrize(
    ("family", "table_set", "gap"),
    [
        ("inet", "public", "guests reach all ports of this host"),
        ("bridge", "taps", "guests can send under the addresses of others"),
    ],
)
def test_rules_that_were_removed(patient: Service, host: Host, family: str, table_set: str, gap: str) -> None:
    """By a restart of nftables, which empties it; here only what is this network's goes."""
    one = patient.datacenters[0]
    mac = "52:54:00:0d:0c:01"
    network.assign(host.connection, one.network, network.Reservation(mac, IPv4Interface(one.ipv4).ip + 90))
    healthy(patient)
    element = one.bridge if family == "inet" else network.tap_of(mac)
    gone = f'delete element {family} hypervisor {table_set} {{ "{element}" }}'
    subprocess.run(["nft", gone], check=True)
    found = problem(patient, f"network {one.network}")
    assert found.text == f"rules of nftables are missing: {gap}"
    assert "restart" in found.mend
    patient.terminate()
    patient.start()
    healthy(patient)
    network.release(host.connection, one.network, mac)


@pytest.mark.long
def test_a_dhcp_server_that_hangs(patient: Service, host: Host) -> None:
    """The network is up, and only asking for a lease tells."""
    spec = network_spec(patient.datacenters[0])
    pid = int(Path(f"/run/libvirt/network/{spec.name}.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    found = networks.leases(host.connection, spec)
    assert (found.level, found.subject) == (Level.PROBLEM, f"DHCP {spec.name}")
    assert "no DHCP server answered" in found.text
    assert nothing_left(patient)
    mended(patient, found)
    found = networks.leases(host.connection, spec)
    assert found.level is Level.OK, found


@pytest.mark.long
def test_a_dhcp_server_that_is_gone_is_there_again(patient: Service, host: Host) -> None:
    """libvirt starts one for the doctor's reservation."""
    spec = network_spec(patient.datacenters[0])
    os.kill(int(Path(f"/run/libvirt/network/{spec.name}.pid").read_text()), signal.SIGKILL)
    assert networks.leases(host.connection, spec).level is Level.OK


@pytest.mark.parametrize("name", ["apikey", "store.db", "graphs.key"])
def test_a_secret_that_others_may_read(patient: Service, name: str) -> None:
    (patient.state / name).chmod(0o644)
    found = problem(patient, "secrets")
    assert name in found.text
    mended(patient, found)
    assert (patient.state / name).stat().st_mode & 0o077 == 0


@pytest.mark.long
def test_a_state_folder_that_qemu_cannot_pass(patient: Service) -> None:
    patient.state.chmod(0o700)
    found = problem(patient, "state folder")
    mended(patient, found)


@pytest.mark.long
def test_a_port_that_another_program_has(patient: Service) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{other.server_port}"
        found = problem(patient, f"address {address}", listen=address)
        other.shutdown()
    assert "another program" in found.text
    assert "HYPERVISOR_LISTEN=" in found.mend


@pytest.mark.long
def test_a_full_disk(patient: Service, host: Host) -> None:
    pool = patient.datacenters[0].pool
    folder = patient.pools / pool
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    try:
        found = problem(patient, f"pool {pool}")
        assert "full" in found.text
    finally:
        subprocess.run(["umount", folder], check=True)
        host.connection.storagePoolLookupByName(pool).refresh()
    healthy(patient)


def test_a_full_state_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=711", "tmpfs", tmp_path], check=True)
    try:
        found = next(house.folder(Settings(state=tmp_path)))
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert (found.level, found.subject) == (Level.PROBLEM, "state folder")
    assert "it is full" in found.text
    assert str(tmp_path) in found.mend


@pytest.mark.long
def test_a_foreign_domain_is_left_alone(patient: Service, host: Host) -> None:
    """One that has the name of a trial's, and is not one."""
    pool = patient.datacenters[1].pool
    name = f"{trial.PREFIX}-{pool}"
    xml = f"<domain type='qemu'><name>{name}</name><memory>1024</memory><os><type>hvm</type></os></domain>"
    foreign = host.connection.defineXML(xml)
    try:
        found = trial.run(host.connection, pool, None, b"", accelerated=False)
        assert found.level is Level.PROBLEM
        assert foreign.UUIDString() == host.connection.lookupByName(name).UUIDString()
    finally:
        foreign.undefine()


@pytest.mark.long
def test_libvirt_that_does_not_answer(patient: Service, tmp_path: Path) -> None:
    away = f"qemu+unix:///system?socket={tmp_path}/none"
    done = command(patient.environment | {"HYPERVISOR_LIBVIRT_URI": away, "COLUMNS": "100"})
    assert done.returncode == 1
    assert "does not answer" in done.stdout
    assert "1 problem" in done.stdout.splitlines()[-1]


@pytest.mark.long
def test_before_the_first_start(new_service: NewService, tmp_path: Path, host: Host) -> None:
    """Nothing is there yet: it says what makes it, and makes nothing itself."""
    service, state = new_service(), tmp_path / "none"
    pool = service.datacenters[0].pool
    done = command(service.environment | {"HYPERVISOR_STATE": str(state)}, "--json")
    found = {one["subject"]: one for one in json.loads(done.stdout)}
    assert found[f"pool {pool}"]["mend"] == "hypervisor serve"
    assert not state.exists()
    with pytest.raises(libvirt.libvirtError):
        host.connection.storagePoolLookupByName(pool)
