"""The records that come from the settings, and the first account with its key."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import select

from api.settings import DatacenterSettings, Settings
from api.store.content import SettingsConflict, populate
from api.store.database import Store
from api.store.keys import digest, first_account, new_key
from api.store.models import Account, ApiKey, Datacenter, Disk, Iface, now
from api.store.schema import upgrade

KEY = "0123456789abcdef01234567"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store with its schema and no record."""
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    upgrade(store)
    yield store
    store.close()


@pytest.fixture
def defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings that nobody changed."""
    for name in ("HYPERVISOR_API_KEY", "HYPERVISOR_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HYPERVISOR_STATE", str(tmp_path))
    return Settings()


def changed(settings: Settings, **values: Any) -> Settings:
    """The settings with another first datacenter."""
    first, *others = settings.datacenters
    return settings.model_copy(update={"datacenters": (first.model_copy(update=values), *others)})


def fill(store: Store, settings: Settings) -> list[Datacenter]:
    """The datacenters after the settings were brought in."""
    with store.writing() as session:
        populate(session, settings)
    with store.reading() as session:
        return list(session.scalars(select(Datacenter).order_by(Datacenter.id)))


def enter(store: Store, settings: Settings) -> str | None:
    """The key that a start enters."""
    with store.writing() as session:
        return first_account(session, settings)


def works(store: Store, key: str) -> str | None:
    """The handle of the account that the key speaks for."""
    with store.reading() as session:
        query = select(Account.handle).join(ApiKey)
        return session.scalar(query.where(ApiKey.digest == digest(key), ApiKey.date_revoked.is_(None)))


def test_default_datacenters(store: Store, defaults: Settings) -> None:
    first, second = fill(store, defaults)
    assert (first.id, first.dc_code, first.iso, first.country) == (1, "FR-SD5", "FR", "France")
    assert (second.id, second.dc_code, second.iaas_closed_for) == (2, "LU-BI1", "NONE")
    assert (first.pool, first.ipv4) == (defaults.datacenters[0].pool, defaults.datacenters[0].ipv4)
    assert [one.id for one in fill(store, defaults)] == [1, 2]


@pytest.mark.parametrize(
    "values", [{"name": "Paris", "country": "FR", "iso": "XX"}, {"pool": "other"}, {"ipv4": "192.0.2.1/24"}]
)
def test_changes_of_an_empty_datacenter(store: Store, defaults: Settings, values: dict[str, str]) -> None:
    fill(store, defaults)
    record = fill(store, changed(defaults, **values))[0]
    assert {key: getattr(record, key) for key in values} == values


def use(store: Store, record: Any) -> None:
    """Put an object into the first datacenter."""
    with store.writing() as session:
        session.add(Account(handle="ALICE-GANDI"))
        session.flush()
        session.add(record)


@pytest.mark.parametrize("key", ["network", "ipv4", "ipv6"])
def test_a_network_in_use_stays(store: Store, defaults: Settings, key: str) -> None:
    fill(store, defaults)
    use(store, Iface(account_id=1, datacenter_id=1, mac="52:54:00:00:00:01", bandwidth=1.0))
    with pytest.raises(
        SettingsConflict, match=f"datacenter FR-SD5: {key} cannot become 'other' while network"
    ):
        fill(store, changed(defaults, **{key: "other"}))
    assert fill(store, changed(defaults, name="Paris", pool="other"))[0].name == "Paris"


def test_a_pool_in_use_stays(store: Store, defaults: Settings) -> None:
    fill(store, defaults)
    use(store, Disk(account_id=1, datacenter_id=1, name="data", size=1024, volume="data"))
    with pytest.raises(
        SettingsConflict, match=r"pool cannot become 'other' .* set it back, or delete them first"
    ):
        fill(store, changed(defaults, pool="other", name="Paris"))
    with store.reading() as session:
        assert session.get_one(Datacenter, 1).name != "Paris"


@pytest.mark.parametrize(
    "record",
    [
        Iface(account_id=1, datacenter_id=1, mac="52:54:00:00:00:01", bandwidth=1.0),
        Disk(account_id=1, datacenter_id=1, name="data", size=1024, volume="data"),
    ],
)
def test_a_host_in_use_stays(store: Store, defaults: Settings, record: Any) -> None:
    assert fill(store, defaults)[0].libvirt_uri is None
    moved = changed(defaults, libvirt_uri="qemu+ssh://there/system")
    assert fill(store, moved)[0].libvirt_uri == "qemu+ssh://there/system"
    use(store, record)
    with pytest.raises(
        SettingsConflict, match=r"libvirt_uri cannot become the service's own while .* use 'qemu\+ssh://there"
    ):
        fill(store, defaults)
    assert fill(store, moved)[0].libvirt_uri == "qemu+ssh://there/system"


def test_the_libvirt_of_a_datacenter(defaults: Settings, tmp_path: Path) -> None:
    (tmp_path / "hypervisor.toml").write_text(
        """[[datacenters]]
        dc_code = "FR-SD5"
        iso = "FR"
        name = "Bissy"
        country = "France"
        pool = "here"
        network = "here"
        bridge = "here"
        ipv4 = "192.0.2.1/24"
        ipv6 = "2001:db8::1/64"
        libvirt_uri = "qemu+tls://there.example/system"
        """
    )
    assert [one.libvirt_uri for one in defaults.datacenters] == [None, None]
    assert [one.libvirt_uri for one in Settings().datacenters] == ["qemu+tls://there.example/system"]
    with pytest.raises(ValidationError, match="libvirt_uri"):
        DatacenterSettings.model_validate(defaults.datacenters[0].model_dump() | {"libvirt_uri": ""})


def test_a_datacenter_no_longer_named_is_closed(store: Store, defaults: Settings) -> None:
    fill(store, defaults)
    alone = defaults.model_copy(update={"datacenters": defaults.datacenters[1:]})
    assert [one.iaas_closed_for for one in fill(store, alone)] == ["ALL", "NONE"]
    assert [one.iaas_closed_for for one in fill(store, defaults)] == ["NONE", "NONE"]


def test_one_more_datacenter(store: Store, defaults: Settings) -> None:
    fill(store, defaults)
    more = DatacenterSettings(
        dc_code="US-BA1",
        iso="US",
        name="Baltimore",
        country="United States",
        pool="us",
        network="us",
        bridge="us",
        ipv4="192.0.2.1/24",
        ipv6="2001:db8::1/64",
    )
    found = fill(store, defaults.model_copy(update={"datacenters": (more, *defaults.datacenters)}))
    assert [one.dc_code for one in found] == ["FR-SD5", "LU-BI1", "US-BA1"]


def test_random_keys() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(re.fullmatch("[a-z0-9]{24}", key) for key in keys)


def test_first_start(store: Store, defaults: Settings) -> None:
    key = enter(store, defaults)
    assert key is not None
    assert re.fullmatch("[a-z0-9]{24}", key)
    assert works(store, key) == "LOCAL-GANDI"
    assert enter(store, defaults) is None
    with store.reading() as session:
        assert len(session.scalars(select(Account)).all()) == len(session.scalars(select(ApiKey)).all()) == 1


def test_only_the_digest_is_kept(store: Store, defaults: Settings, tmp_path: Path) -> None:
    key = enter(store, defaults)
    assert key is not None
    store.close()
    assert not any(key.encode() in file.read_bytes() for file in tmp_path.glob("store.db*"))


def test_first_start_with_a_key_in_the_settings(store: Store, defaults: Settings) -> None:
    assert enter(store, defaults.model_copy(update={"api_key": KEY})) == KEY
    assert works(store, KEY) == "LOCAL-GANDI"


def test_later_start_with_another_key(store: Store, defaults: Settings) -> None:
    first = enter(store, defaults)
    assert first is not None
    named = defaults.model_copy(update={"api_key": KEY, "account": "OTHER-GANDI"})
    assert enter(store, named) == KEY
    assert works(store, KEY) == works(store, first) == "LOCAL-GANDI"
    assert enter(store, named) is None


def test_a_key_of_the_settings_works_again_after_its_revocation(store: Store, defaults: Settings) -> None:
    named = defaults.model_copy(update={"api_key": KEY})
    enter(store, named)
    with store.writing() as session:
        key = session.scalars(select(ApiKey)).one()
        key.date_revoked = key.date_expires = now()
        key.read_only = True
    assert works(store, KEY) is None
    assert enter(store, defaults) is None
    assert works(store, KEY) is None
    assert enter(store, named) is None
    assert works(store, KEY) == "LOCAL-GANDI"
    with store.reading() as session:
        key = session.scalars(select(ApiKey)).one()
        assert (key.date_expires, key.read_only) == (None, False)
