"""What a running domain has used so far, from libvirt's words for it (virConnectGetAllDomainStats)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class DiskCounters:
    """What a disk has done since the domain started; `alias` is our name of the device."""

    alias: str
    read_bytes: int
    written_bytes: int
    read_requests: int
    write_requests: int


@dataclass(frozen=True, slots=True)
class InterfaceCounters:
    """What the guest has received and sent on an interface; `alias` is our name of the device."""

    alias: str
    received_bytes: int
    sent_bytes: int
    received_packets: int
    sent_packets: int


@dataclass(frozen=True, slots=True)
class DomainCounters:
    """What a running domain has used.

    `run` is another number after each start. `vcpus` has the nanoseconds that each processor ran. `memory` is
    what the guest has in bytes, `memory_used` what it uses, None when its balloon driver does not say.
    `answered` is whether QEMU answered: without that there are no disks.
    """

    uuid: str
    run: int
    answered: bool
    vcpus: Mapping[int, int]
    memory: int | None
    memory_used: int | None
    disks: tuple[DiskCounters, ...]
    interfaces: tuple[InterfaceCounters, ...]


def names(facts: Mapping[str, Any]) -> frozenset[str]:
    """What the host calls the devices that `facts` speak of: ``vda``, ``vnet3``."""
    return frozenset(facts[f"{one}.name"] for one in (*_disks(facts), *_interfaces(facts)))


def counters(uuid: str, run: int, facts: Mapping[str, Any], devices: Mapping[str, str]) -> DomainCounters:
    """The counters in `facts`; `devices` has our aliases by name, and what is not in it is left out."""
    return DomainCounters(
        uuid=uuid,
        run=run,
        # a domain without disks has no place to show it
        answered=all(f"{one}.rd.bytes" in facts for one in _disks(facts)),
        vcpus=_vcpus(facts),
        memory=_bytes(facts.get("balloon.current")),
        memory_used=_used(facts),
        disks=tuple(
            DiskCounters(
                devices[facts[f"{one}.name"]],
                *(facts[f"{one}.{key}"] for key in ("rd.bytes", "wr.bytes", "rd.reqs", "wr.reqs")),
            )
            for one in _disks(facts)
            if facts[f"{one}.name"] in devices and f"{one}.rd.bytes" in facts
        ),
        # libvirt has turned the tap's directions round: what the tap sent is what the guest received
        interfaces=tuple(
            InterfaceCounters(
                devices[facts[f"{one}.name"]],
                *(facts[f"{one}.{key}"] for key in ("rx.bytes", "tx.bytes", "rx.pkts", "tx.pkts")),
            )
            for one in _interfaces(facts)
            if facts[f"{one}.name"] in devices and f"{one}.rx.bytes" in facts
        ),
    )


def _disks(facts: Mapping[str, Any]) -> list[str]:
    # a drive without a medium has no name
    return [one for one in _numbered("block", facts) if f"{one}.name" in facts]


def _interfaces(facts: Mapping[str, Any]) -> list[str]:
    return [one for one in _numbered("net", facts) if f"{one}.name" in facts]


def _numbered(kind: str, facts: Mapping[str, Any]) -> list[str]:
    return [f"{kind}.{number}" for number in range(facts.get(f"{kind}.count", 0))]


def _vcpus(facts: Mapping[str, Any]) -> dict[int, int]:
    numbers = range(facts.get("vcpu.maximum", 0))
    return {one: facts[f"vcpu.{one}.time"] for one in numbers if f"vcpu.{one}.time" in facts}


def _used(facts: Mapping[str, Any]) -> int | None:
    if "balloon.available" in facts and "balloon.unused" in facts:
        return _bytes(facts["balloon.available"] - facts["balloon.unused"])
    return None


def _bytes(kibibytes: int | None) -> int | None:
    return None if kibibytes is None else kibibytes * 1024
