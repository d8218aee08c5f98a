"""Who may look at the console of which virtual machine. Every refusal is the same: None."""

import hashlib
import hmac
import ipaddress
from contextlib import suppress
from dataclasses import dataclass, field

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from api.methods.call import Services
from api.methods.dispatch import Speaker, authenticate
from api.methods.faults import Fault
from api.methods.public_key import InvalidPublicKey, parse_public_key
from api.store.models import Account, Iface, Ip, SshKey, Vm

_NOBODY = 0  # no account has this id


@dataclass(frozen=True, slots=True)
class Viewed:
    """A virtual machine whose console is looked at, its owner, and the API key if that is what let in."""

    vm_id: int
    uuid: str
    hostname: str
    datacenter_id: int
    account: str = field(default="", compare=False)
    key_id: int | None = field(default=None, compare=False)
    label: str = field(default="", compare=False)


def with_key(services: Services, address: str, blob: bytes) -> Viewed | None:
    """The VM at the public `address` (IPv4 or IPv6), when the key `blob` opens its console.

    The keys are the account's in ``hosting.ssh`` now, and those that the VM itself was given.
    """
    offered = hashlib.sha256(blob).digest()
    found = None
    with services.store.reading() as session:
        # an address that nobody has is asked for with the same questions
        candidates: list[Vm | None] = [*session.scalars(_at(address))]
        for vm in candidates or [None]:
            if _holds(session, vm, offered) and vm is not None:
                found = _viewed(session, vm)
    return found


def with_api_key(services: Services, address: str, key: str) -> Viewed | None:
    """The VM at the public `address` (IPv4 or IPv6), when the API key speaks for its account.

    A read-only key opens none.
    """
    owner, speaker = _NOBODY, None
    with suppress(Fault):
        speaker = authenticate(services, key)
        # whoever has a console can type into it
        owner = _NOBODY if speaker.read_only else speaker.account.id
    with services.store.reading() as session:
        vm = session.scalar(_at(address).where(Vm.account_id == owner))
        return None if vm is None else _viewed(session, vm, speaker)


def is_open(services: Services, vm_id: int) -> bool:
    """Whether the console of the VM may still be looked at."""
    with services.store.reading() as session:
        return session.scalar(select(Vm.id).where(Vm.id == vm_id, *_OPEN)) is not None


_OPEN = (Vm.console, Vm.state != "deleted")


def _at(address: str) -> Select[Vm]:
    # two datacenters may have the same network: then there are two
    return (
        select(Vm)
        .join(Iface, Iface.vm_id == Vm.id)
        .join(Ip, Ip.iface_id == Iface.id)
        .where(Ip.ip == _canonical(address), Ip.vlan_id.is_(None), *_OPEN)
        .order_by(Vm.id)
    )


def _canonical(address: str) -> str:
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return ""


def _holds(session: Session, vm: Vm | None, offered: bytes) -> bool:
    account = _NOBODY if vm is None else vm.account_id
    given = () if vm is None else vm.seed.get("ssh_keys", ())
    kept = session.scalars(select(SshKey.value).where(SshKey.account_id == account))
    # all of them are compared, whichever it is
    return sum(hmac.compare_digest(_digest(line), offered) for line in (*kept, *given)) > 0


def _digest(line: str) -> bytes:
    try:
        return hashlib.sha256(parse_public_key(line).blob).digest()
    except InvalidPublicKey:
        return b""


def _viewed(session: Session, vm: Vm, speaker: Speaker | None = None) -> Viewed:
    owner = session.get_one(Account, vm.account_id)
    key = (None, "") if speaker is None else (speaker.key_id, speaker.label)
    return Viewed(vm.id, vm.uuid, vm.hostname, vm.datacenter_id, owner.handle, *key)
