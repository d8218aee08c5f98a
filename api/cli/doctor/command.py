"""The command, and the order of the looks."""

import dataclasses
import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

import hypervisor.lab
from api.cli.doctor import house, records, report
from api.cli.lab import SERVICE
from api.cli.settings import load
from api.operations.host import network_spec
from api.settings import DatacenterSettings, Settings
from hypervisor import acceleration
from hypervisor.connection import Handle, answers, open_apart
from hypervisor.doctor import Finding, Level, host, networks, pools, trial
from hypervisor.doctor.finding import command, ok, problem, virsh, warning
from hypervisor.errors import HypervisorError
from hypervisor.network.conflicts import is_local

Look = Callable[[], Iterable[Finding]]

_LABEL = "Tiny"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--no-trial", is_flag=True, help="Start no machine and ask for no lease; only look.")
def doctor(as_json: bool, no_trial: bool) -> None:
    """Look at everything that the service needs, and say how to mend what is wrong.

    Works whether the service runs or not. On each storage pool a machine is started and removed, on each
    network a DHCP lease is taken and handed back. The exit status is 1 when there is a problem.
    """
    settings = load()
    _enter_lab(settings)
    console, progress = Console(), Console(stderr=True)
    with _alone(settings), progress.status("") as status:
        findings = examine(settings, trials=not no_trial, begins=lambda what: status.update(f"{what} …"))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(one) for one in findings], indent=2, ensure_ascii=False))
    else:
        report.show(console, findings)
    sys.exit(any(one.level is Level.PROBLEM for one in findings))


def examine(
    settings: Settings, *, trials: bool, begins: Callable[[str], None] = lambda _what: None
) -> list[Finding]:
    """All that is found; `begins` hears of each look before it begins. Without `trials` nothing is made."""
    findings: list[Finding] = []
    for what, look in _looks(settings, trials=trials):
        begins(what)
        findings += _guarded(what, look)
    return findings


def _enter_lab(settings: Settings) -> None:
    """Where this host's libvirt does not answer but the service's lab runs, look there instead."""
    if answers(settings.libvirt_uri, patience=5) or os.geteuid() != 0:
        return
    if any(one.name == SERVICE for one in hypervisor.lab.running()):
        inside = [sys.executable, "-m", "api.cli", *sys.argv[1:]]
        sys.exit(hypervisor.lab.enter(inside, name=SERVICE))


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """One doctor at a time: they use the same names."""
    if not settings.state.is_dir():
        yield
        return
    folder = os.open(settings.state, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise click.ClickException("another doctor is at work here: wait until it is done") from None
    else:
        yield
    finally:
        os.close(folder)


def _guarded(what: str, look: Look) -> Iterator[Finding]:
    try:
        yield from look()
    except HypervisorError as error:
        yield problem(what, str(error))
    except Exception as error:  # the other looks are worth having all the same
        yield warning(what, f"it could not be looked at: {type(error).__name__}: {error}")


def _looks(settings: Settings, *, trials: bool) -> Iterator[tuple[str, Look]]:
    yield "state folder", lambda: house.folder(settings)
    yield "records", lambda: [records.examine(settings)]
    yield "address", lambda: house.ports(settings)
    yield "clock", lambda: [host.clock(records.newest(settings))]
    verdicts: list[acceleration.Verdict] = []

    def kvm() -> Iterator[Finding]:
        verdicts.append(
            acceleration.examine(settings.images / "tiny.qcow2", settings.state / "acceleration.json")
        )
        yield _kvm(settings, verdicts[0])

    yield "KVM", kvm
    works = bool(verdicts) and verdicts[0].works
    accelerated = settings.acceleration == "kvm" or (settings.acceleration == "auto" and works)
    for uri, datacenters in _places(settings).items():
        yield from _of_libvirt(settings, uri, datacenters, accelerated, trials)


def _of_libvirt(
    settings: Settings, uri: str, datacenters: list[DatacenterSettings], accelerated: bool, trials: bool
) -> Iterator[tuple[str, Look]]:
    try:
        connection = _opened(uri)
    except HypervisorError as error:
        silent = problem("libvirt", str(error), _start_libvirt(uri, settings))
        yield "libvirt", lambda: [silent]
        return
    yield "versions", lambda: host.versions(connection)
    for one in datacenters:
        yield from _of_datacenter(settings, one, connection, accelerated, trials)


def _of_datacenter(
    settings: Settings, datacenter: DatacenterSettings, connection: Handle, accelerated: bool, trials: bool
) -> Iterator[tuple[str, Look]]:
    pool, spec = datacenter.pool, network_spec(datacenter)
    restart = "systemctl restart hypervisor" if house.runs(settings) else "hypervisor serve"
    good: set[str] = set()

    def noted(name: str, look: Iterable[Finding]) -> Iterator[Finding]:
        found = list(look)
        if all(one.level is not Level.PROBLEM for one in found):
            good.add(name)
        return iter(found)

    yield (
        f"pool {pool}",
        lambda: noted("pool", pools.examine(connection, pool, settings.pools / pool, restart)),
    )
    yield f"network {spec.name}", lambda: noted("network", networks.examine(connection, spec, restart))
    if trials and "network" in good and is_local(connection):
        yield f"DHCP {spec.name}", lambda: [networks.leases(connection, spec)]
    if trials and "pool" in good:
        base = records.base_of(settings, datacenter.dc_code, _LABEL)
        yield f"trial on {pool}", lambda: [trial.run(connection, pool, base, acceleration.SIGN, accelerated)]


def _places(settings: Settings) -> dict[str, list[DatacenterSettings]]:
    found: dict[str, list[DatacenterSettings]] = {}
    for one in settings.datacenters:
        found.setdefault(one.libvirt_uri or settings.libvirt_uri, []).append(one)
    return found


def _opened(uri: str) -> Handle:
    if not answers(uri):
        # opening has no time limit of its own
        raise HypervisorError(f"libvirt at {uri} does not answer")
    return open_apart(uri)


def _start_libvirt(uri: str, settings: Settings) -> str:
    if uri != settings.libvirt_uri:
        return virsh(uri, "version")
    systemd = Path("/run/systemd/system").is_dir()
    return command("systemctl", "start", "libvirtd") if systemd else "hypervisor serve --libvirt lab"


def _kvm(settings: Settings, verdict: acceleration.Verdict) -> Finding:
    subject = "KVM"
    if settings.acceleration == "tcg":
        return ok(subject, f"guests are emulated, as the settings say ({verdict.text})")
    if verdict.works:
        return ok(subject, verdict.text)
    if settings.acceleration == "kvm":
        return problem(
            subject,
            f"the settings ask for it, but {verdict.text}: no guest boots",
            verdict.mend or "export HYPERVISOR_ACCELERATION=tcg",
        )
    return warning(subject, f"{verdict.text}: guests are emulated, which is slow", verdict.mend)
