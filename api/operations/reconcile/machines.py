"""Virtual machines and their domains."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.operations import attach, blueprint, notes
from api.operations.backend import Backend
from api.operations.reconcile.finding import Finding
from api.operations.survey import Place
from api.store.models import Account, Datacenter, Vm
from hypervisor.domain import console_log, power
from hypervisor.domain.spec import DomainSpec
from hypervisor.domain.survey import Seen
from hypervisor.seed import build_iso
from hypervisor.storage import volume

_DEFINE = "defines it as the records have it"


def compare(session: Session, place: Place) -> Iterator[Finding]:
    """The machines of one datacenter."""
    here = select(Vm).where(Vm.state != "deleted", Vm.datacenter_id == place.datacenter.id).order_by(Vm.id)
    vms = session.scalars(here).all()
    for vm in vms:
        seen = place.domains.get(vm.uuid)
        if vm.state.startswith("being_"):
            yield _finding(vm, f"vm#{vm.id} is {vm.state}, and no operation is at it; delete it")
        elif seen is None:
            yield _without_domain(place, vm)
        else:
            yield from _defined(session, place, vm, seen)
            yield from _running(vm, seen)
    known = {vm.uuid for vm in vms}
    for uuid, seen in place.domains.items():
        if uuid not in known:
            yield _without_record(place, seen)


def _finding(vm: Vm, text: str) -> Finding:
    return Finding(f"vm:{vm.id}", text)


def _without_domain(place: Place, vm: Vm) -> Finding:
    missing = [f"disk#{one.id} ({one.volume})" for one in vm.disks if one.volume not in place.volumes]
    text = f"vm#{vm.id} ({vm.hostname}) has no domain"
    if missing:
        return _finding(
            vm, f"{text}, and the volumes of {', '.join(missing)} are missing; put them into {place.folder}"
        )
    return Finding(f"vm:{vm.id}", text, "defines it anew, halted", partial(_define, vm_id=vm.id))


def _defined(session: Session, place: Place, vm: Vm, seen: Seen) -> Iterator[Finding]:
    # first: a definition names the seed, which must be there
    seed = blueprint.seed_volume(vm)
    if seed not in place.volumes:
        yield Finding(
            f"vm:{vm.id}",
            f"the seed of vm#{vm.id} is missing",
            "writes it anew from the records",
            partial(_write_seed, vm_id=vm.id),
        )
    handle = session.get_one(Account, vm.account_id).handle
    labels = {"vm": str(vm.id), "account": handle, "datacenter": place.datacenter.dc_code}
    mend = partial(_define, vm_id=vm.id)
    missing = any(disk.volume not in place.volumes for disk in vm.disks)
    for text in (
        *_wrong(seen.defined, vm, labels),
        *_devices(_wanted(session, place, vm), _devices_of(seen.defined)),
    ):
        said = f"the definition of vm#{vm.id} {text}"
        # a definition is made of volumes that are there; the missing one is told by itself
        yield _finding(vm, said) if missing else Finding(f"vm:{vm.id}", said, _DEFINE, mend)
    if not notes.same(seen.defined.notes, notes.compose(session, vm)):
        yield Finding(
            f"vm:{vm.id}",
            f"what the domain of vm#{vm.id} keeps of the records is out of date",
            "writes it anew",
            partial(_note, vm_id=vm.id),
        )


def _wrong(spec: DomainSpec, vm: Vm, labels: dict[str, str]) -> Iterator[str]:
    if spec.vcpus != vm.cores:
        yield f"has {spec.vcpus} cores, not {vm.cores}"
    if (spec.memory, spec.max_memory) != (vm.memory, vm.vm_max_memory):
        yield f"has {spec.memory} of {spec.max_memory} MiB of memory, not {vm.memory} of {vm.vm_max_memory}"
    if spec.labels != labels:
        yield f"is labelled {spec.labels}, not {labels}"


def _wanted(session: Session, place: Place, vm: Vm) -> dict[str, tuple[str, ...]]:
    datacenter = session.get_one(Datacenter, vm.datacenter_id)
    disks = {
        blueprint.disk_alias(one.id): _disk(
            place.folder / one.volume, blueprint.target(one.position or 0), readonly=one.access == "read"
        )
        for one in vm.disks
        if not one.leaving
    }
    cards = (blueprint.interface(datacenter, one) for one in vm.ifaces if not one.leaving)
    return disks | {card.alias: (card.mac, f"on network {card.network}") for card in cards}


def _devices_of(spec: DomainSpec) -> dict[str, tuple[str, ...]]:
    disks = {one.alias: _disk(one.path, one.target, readonly=one.readonly) for one in spec.disks}
    cards = {one.alias: (one.mac, f"on network {one.network}") for one in spec.interfaces}
    # what else is in it, somebody else has put there
    return {alias: facts for alias, facts in (disks | cards).items() if _name(alias)}


def _disk(path: Path, target: str, *, readonly: bool) -> tuple[str, ...]:
    return str(path), f"as {target}", "read-only" if readonly else "writable"


def _name(alias: str) -> str:
    if (disk := blueprint.disk_of(alias)) is not None:
        return f"disk#{disk}"
    return "" if (iface := blueprint.iface_of(alias)) is None else f"iface#{iface}"


def _devices(wanted: dict[str, tuple[str, ...]], there: dict[str, tuple[str, ...]]) -> Iterator[str]:
    for alias in sorted(wanted.keys() | there.keys()):
        if alias not in there:
            yield f"lacks {_name(alias)}"
        elif alias not in wanted:
            yield f"has {_name(alias)}, which is not its"
        elif wanted[alias] != there[alias]:
            yield f"has {_name(alias)} {', '.join(there[alias])}, not {', '.join(wanted[alias])}"


def _running(vm: Vm, seen: Seen) -> Iterator[Finding]:
    if seen.live is None:
        return
    there = _devices_of(seen.live)
    for disk in vm.disks:
        if not disk.leaving and blueprint.disk_alias(disk.id) not in there:
            yield Finding(
                f"vm:{vm.id}",
                f"the running vm#{vm.id} lacks disk#{disk.id}",
                "plugs it in",
                partial(attach.plug_disk, vm_id=vm.id, disk_id=disk.id),
            )
    for iface in vm.ifaces:
        if not iface.leaving and blueprint.iface_alias(iface.id) not in there:
            yield Finding(
                f"vm:{vm.id}",
                f"the running vm#{vm.id} lacks iface#{iface.id}",
                "plugs it in",
                partial(attach.plug_iface, vm_id=vm.id, iface_id=iface.id),
            )
    recorded = {blueprint.disk_alias(one.id) for one in vm.disks}
    recorded |= {blueprint.iface_alias(one.id) for one in vm.ifaces}
    for alias in sorted(there.keys() - recorded):
        yield _finding(vm, f"the running vm#{vm.id} has {_name(alias)}, which is not its; stop it, start it")


def _without_record(place: Place, seen: Seen) -> Finding:
    spec = seen.defined
    about = f"vm:{spec.labels.get('vm')}"
    text = f"the domain {spec.name} ({spec.uuid}) is of no VM"
    if seen.state.powered:
        return Finding(about, f"{text} and runs; look at it with virsh console, end it with virsh destroy")
    kept = [one.path.name for one in spec.disks if _name(one.alias) and one.path.name in place.volumes]
    if kept:
        return Finding(
            about, f"{text}, and {', '.join(kept)} may hold a guest's data; undefine it once that is settled"
        )
    return Finding(about, text, "removes it", partial(_remove, place=place, spec=spec))


def _define(backend: Backend, vm_id: int) -> None:
    connection, _ = backend.machine(vm_id)
    with backend.store.reading() as session:
        vm = session.get_one(Vm, vm_id)
        pool = session.get_one(Datacenter, vm.datacenter_id).pool
        if power.state(connection, vm.uuid) is power.State.ABSENT:
            volume.upload(connection, pool, blueprint.seed_volume(vm), build_iso(blueprint.seed(vm)), "raw")
        power.define(connection, blueprint.domain(backend, session, vm))


def _write_seed(backend: Backend, vm_id: int) -> None:
    connection, _ = backend.machine(vm_id)
    with backend.store.reading() as session:
        vm = session.get_one(Vm, vm_id)
        pool = session.get_one(Datacenter, vm.datacenter_id).pool
        volume.upload(connection, pool, blueprint.seed_volume(vm), build_iso(blueprint.seed(vm)), "raw")


def _note(backend: Backend, vm_id: int) -> None:
    connection, _ = backend.machine(vm_id)
    with backend.store.reading() as session:
        vm = session.get_one(Vm, vm_id)
        power.note(connection, vm.uuid, notes.compose(session, vm))


def _remove(backend: Backend, place: Place, spec: DomainSpec) -> None:
    power.undefine(place.handle, spec.uuid)
    for disk in spec.disks:
        if disk.alias == blueprint.SEED_ALIAS:
            volume.delete(place.handle, place.datacenter.pool, disk.path.name)
    console_log.remove(backend.console_logs / f"{spec.uuid}.log")
