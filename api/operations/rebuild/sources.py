"""What is told of the records in places other than the database."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from api.operations import blueprint, image, notes
from api.operations import vlan as vlans
from api.operations.disk import named
from api.operations.iface import labelled
from api.operations.rebuild.ids import Ids
from api.operations.survey import Place, Survey
from hypervisor.domain.survey import Seen
from hypervisor.errors import HypervisorError
from hypervisor.seed import Seed, SeedError, read_iso
from hypervisor.storage import survey as storage

Values = dict[str, Any]


@dataclass
class Sources:
    """All notes, the newest first where several speak of one thing. Values are by id.

    `notes` are by the domain's UUID, `images` by datacenter code and volume, `datacenters` ids by code.
    """

    notes: dict[str, Values] = field(default_factory=dict)
    accounts: dict[int, Values] = field(default_factory=dict)
    keys: dict[int, list[Values]] = field(default_factory=dict)
    disks: dict[int, Values] = field(default_factory=dict)
    ifaces: dict[int, Values] = field(default_factory=dict)
    ips: dict[int, list[Values]] = field(default_factory=dict)
    images: dict[tuple[str, str], Values] = field(default_factory=dict)
    datacenters: dict[str, int] = field(default_factory=dict)
    ids: Ids = field(default_factory=Ids)


def read(survey: Survey) -> Sources:
    """Read them all."""
    found = Sources()
    for place in survey.places.values():
        _domains(place, found)
        _images(place, found)
        _names(place, found)
    for document in sorted(found.notes.values(), key=lambda one: str(one.get("written")), reverse=True):
        _take(document, found)
    return found


def _domains(place: Place, found: Sources) -> None:
    for uuid, seen in place.domains.items():
        number = vm_id(seen)
        if number is not None:
            found.ids.saw("vm", number)
        for disk in seen.defined.disks:
            found.ids.saw("disk", blueprint.disk_of(disk.alias) or 0)
        for card in seen.defined.interfaces:
            found.ids.saw("iface", blueprint.iface_of(card.alias) or 0)
        document = notes.read(seen.defined.notes)
        if document is not None:
            found.notes[uuid] = document


def vm_id(seen: Seen) -> int | None:
    """The VM that a domain is labelled with."""
    label = seen.defined.labels.get("vm", "")
    return int(label) if label.isdecimal() else None


def _take(document: Values, found: Sources) -> None:
    datacenter, account = document["datacenter"], document["account"]
    found.datacenters.setdefault(datacenter["dc_code"], datacenter["id"])
    if account["id"] not in found.accounts:
        found.accounts[account["id"]] = account
        found.keys[account["id"]] = document["keys"]
    for kind, listed in (("disks", found.disks), ("snapshots", found.disks), ("ifaces", found.ifaces)):
        for one in document[kind]:
            listed.setdefault(one["id"], one)
    for iface in {ip["iface_id"] for ip in document["ips"]}:
        found.ips.setdefault(iface, [ip for ip in document["ips"] if ip["iface_id"] == iface])
    found.ids.saw_all(document["last"])


def _images(place: Place, found: Sources) -> None:
    for name in place.volumes:
        if not image.VOLUME.fullmatch(name) or image.description_of(name) not in place.volumes:
            continue
        with contextlib.suppress(HypervisorError, ValueError):
            text = storage.content(place.handle, place.datacenter.pool, image.description_of(name))
            document = json.loads(text)
            found.images[place.datacenter.dc_code, name] = document
            found.datacenters.setdefault(place.datacenter.dc_code, document["datacenter"]["id"])
            found.ids.saw("disk", document["disk"]["id"])
            for one in document["images"]:
                found.ids.saw("image", one["id"])


def _names(place: Place, found: Sources) -> None:
    for name in place.volumes:
        told = named(name)
        if told is not None:
            for number in (told.id, told.source_id or 0):
                found.ids.saw("disk", number)
            found.ids.saw("account", told.account_id or 0)
    for reservation in _reservations(place):
        iface, account = labelled(reservation) or (0, 0)
        found.ids.saw("iface", iface)
        found.ids.saw("account", account)
    for private in place.networks.values():
        record = vlans.recorded(private.spec)
        found.ids.saw("vlan", record.get("id", 0))
        found.ids.saw("account", record.get("account_id", 0))


def _reservations(place: Place) -> Iterator[Any]:
    yield from place.reservations or []
    for private in place.networks.values():
        yield from private.reservations


def seed(place: Place, seen: Seen) -> Seed | None:
    """What the guest was told, as its seed has it."""
    paths = [one.path.name for one in seen.defined.disks if one.alias == blueprint.SEED_ALIAS]
    if not paths or paths[0] not in place.volumes:
        return None
    try:
        return read_iso(storage.content(place.handle, place.datacenter.pool, paths[0]))
    except SeedError:
        return None


def version(seed: Seed) -> int:
    """Which one of its machine's seeds it is, from 1."""
    number = seed.instance_id.rpartition("-")[2]
    return int(number) if number.isdecimal() else 1


def told(seed: Seed | None) -> Mapping[str, Any]:
    """A seed as the records keep it."""
    if seed is None:
        return {}
    return {
        "login": seed.login,
        "password_hash": seed.password_hash,
        "ssh_keys": list(seed.ssh_keys),
        "run": seed.run,
        "script": seed.script,
        "script_args": seed.script_args,
    }
