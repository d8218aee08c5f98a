"""What libvirt and the file system have of the service, datacenter by datacenter."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from api.operations.blueprint import SEED_ALIAS
from api.operations.hosts import Hosts
from api.operations.vlan import WITHIN
from api.store.models import Datacenter
from hypervisor.connection import Handle
from hypervisor.domain import survey as domains
from hypervisor.domain.survey import Seen
from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import LibvirtError
from hypervisor.network import Reservation, reservations
from hypervisor.network import survey as networks
from hypervisor.network.errors import NetworkError
from hypervisor.network.spec import NetworkSpec
from hypervisor.storage import survey as storage
from hypervisor.storage.survey import Found


@dataclass(frozen=True, slots=True)
class Private:
    """A private network: as it is defined, whether it runs, its reservations."""

    spec: NetworkSpec
    active: bool
    reservations: list[Reservation]


@dataclass(frozen=True, slots=True)
class Place:
    """What one datacenter has. Domains are by UUID, volumes and networks by name.

    `bridge` is that of its public network; `used` are the host's interfaces that running domains have,
    whoever made them.
    """

    datacenter: Datacenter
    handle: Handle
    folder: Path
    domains: dict[str, Seen]
    volumes: dict[str, Found]
    reservations: list[Reservation] | None
    networks: dict[str, Private]
    bridge: str | None
    used: set[str]


@dataclass(frozen=True, slots=True)
class Survey:
    """The places that could be looked at, by the datacenter's id; why the others could not."""

    places: dict[int, Place]
    away: list[str]


def take(hosts: Hosts, datacenters: Iterable[Datacenter]) -> Survey:
    """Look at every datacenter; one whose host or pool does not answer is left out."""
    places, away = {}, []
    for datacenter in datacenters:
        try:
            places[datacenter.id] = _look(hosts.handle(datacenter.id, wait=5), datacenter)
        except HypervisorError as error:
            away.append(f"datacenter {datacenter.dc_code} is left out: {error}")
    return Survey(places, away)


def _look(handle: Handle, datacenter: Datacenter) -> Place:
    folder = storage.folder(handle, datacenter.pool)
    return Place(
        datacenter=datacenter,
        handle=handle,
        folder=folder,
        domains={
            seen.defined.uuid: seen
            for seen in domains.domains(handle)
            if _is_here(seen, datacenter.dc_code, folder)
        },
        volumes=storage.volumes(handle, datacenter.pool),
        reservations=_reservations(handle, datacenter.network),
        networks={
            spec.name: Private(spec, active, _reservations(handle, spec.name) or [])
            for spec, active in networks.private(handle)
            if spec.labels.get(WITHIN) == datacenter.network
        },
        bridge=networks.bridge_of(handle, datacenter.network),
        used=domains.taps(handle),
    )


def _is_here(seen: Seen, code: str, folder: Path) -> bool:
    """Whether the domain is of this datacenter: another service on the same libvirt may have one of the same
    code, but no two have the same pool, and the seed of each machine is in its pool."""
    seeds = [disk.path.parent for disk in seen.defined.disks if disk.alias == SEED_ALIAS]
    return seen.defined.labels.get("datacenter") == code and seeds == [folder]


def _reservations(handle: Handle, network: str) -> list[Reservation] | None:
    try:
        return reservations(handle, network)
    except (NetworkError, LibvirtError):
        return None  # there is no such network, it is not ours, or its folder is gone
