"""The records that come from the settings: datacenters."""

from sqlalchemy import exists, or_, select
from sqlalchemy.orm import Session

from api.settings import DatacenterSettings, Settings
from api.store.errors import StoreError
from api.store.models import Datacenter, Disk, Iface, Image

_NAMES = ("iso", "name", "country", "migration_address")
_STORAGE = ("pool",)
_NETWORK = ("network", "ipv4", "ipv6")
_HOST = ("libvirt_uri",)


class SettingsConflict(StoreError):
    """The settings change what existing objects depend on; the text says which, and what to do."""


def populate(session: Session, settings: Settings) -> None:
    """Bring the datacenters in line with the settings.

    Missing ones are inserted, changed ones updated. One that the settings no longer name is closed, never
    deleted: its disks may still be there. Raises `SettingsConflict` when a used pool, network or host would
    change.
    """
    known = {record.dc_code: record for record in session.scalars(select(Datacenter))}
    for wanted in settings.datacenters:
        record = known.pop(wanted.dc_code, None)
        if record is None:
            session.add(new_datacenter(wanted))
        else:
            _update(session, record, wanted)
            record.iaas_closed_for = "NONE"
        session.flush()
    for record in known.values():
        record.iaas_closed_for = "ALL"
    session.flush()


def new_datacenter(wanted: DatacenterSettings) -> Datacenter:
    """The record of a datacenter, without an id yet."""
    return Datacenter(dc_code=wanted.dc_code, **_values(wanted))


def _values(wanted: DatacenterSettings) -> dict[str, str | None]:
    return {key: getattr(wanted, key) for key in (*_NAMES, *_STORAGE, *_NETWORK, *_HOST)}


def _update(session: Session, record: Datacenter, wanted: DatacenterSettings) -> None:
    changed = {key: value for key, value in _values(wanted).items() if getattr(record, key) != value}
    for keys, in_use, what in (
        ((*_STORAGE, *_HOST), _has_disks(session, record), "disks"),
        ((*_NETWORK, *_HOST), _has_interfaces(session, record), "network interfaces"),
    ):
        for key in keys:
            if in_use and key in changed:
                old, new = _named(getattr(record, key)), _named(changed[key])
                raise SettingsConflict(
                    f"datacenter {record.dc_code}: {key} cannot become {new} while {what} use {old}: "
                    "set it back, or delete them first"
                )
    for key, value in changed.items():
        setattr(record, key, value)


def _named(value: str | None) -> str:
    return "the service's own" if value is None else repr(value)


def _has_disks(session: Session, record: Datacenter) -> bool:
    disk = exists().where(Disk.datacenter_id == record.id)
    image = exists().where(Image.datacenter_id == record.id)
    return bool(session.scalar(select(or_(disk, image))))


def _has_interfaces(session: Session, record: Datacenter) -> bool:
    return bool(session.scalar(select(exists().where(Iface.datacenter_id == record.id))))
