"""Settings: one TOML file, overridden by ``HYPERVISOR_*`` variables.

The file is ``$HYPERVISOR_CONFIG``, else ``hypervisor.toml`` in the state folder.
"""

import ipaddress
import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)


def _interface4(value: str) -> str:
    return str(ipaddress.IPv4Interface(value))


def _interface6(value: str) -> str:
    return str(ipaddress.IPv6Interface(value))


def _network(value: str) -> str:
    return str(ipaddress.ip_network(value))


class DatacenterSettings(BaseModel):
    """One storage pool and one network, on the service's own libvirt or on that at `libvirt_uri`.

    `ipv4` and `ipv6` are the gateway's addresses with their prefixes. `migration_address`, an IP address or a
    name, is where other hosts reach this one. Guests reach those TCP and UDP `host_ports` of its host.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dc_code: str = Field(max_length=16, pattern=r"^[A-Z0-9-]+$")
    iso: str = Field(max_length=2)
    name: str
    country: str
    pool: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    network: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    bridge: str = Field(pattern=r"^[A-Za-z0-9._-]{1,15}$")
    ipv4: Annotated[str, AfterValidator(_interface4)]
    ipv6: Annotated[str, AfterValidator(_interface6)]
    libvirt_uri: str | None = Field(default=None, min_length=1, max_length=255)
    migration_address: str | None = Field(default=None, pattern=r"^[A-Za-z0-9.:-]{1,253}$")
    host_ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = ()


_DATACENTERS = (
    DatacenterSettings(
        dc_code="FR-SD5", iso="FR", name="Bissy", country="France", pool="hypervisor-fr-sd5",
        network="hypervisor-fr-sd5", bridge="hv-fr-sd5", ipv4="10.105.0.1/20", ipv6="fd67:6864:105::1/64",
    ),
    DatacenterSettings(
        dc_code="LU-BI1", iso="LU", name="Bissen", country="Luxembourg", pool="hypervisor-lu-bi1",
        network="hypervisor-lu-bi1", bridge="hv-lu-bi1", ipv4="10.103.0.1/20", ipv6="fd67:6864:103::1/64",
    ),
)  # fmt: skip


class AccountLimits(BaseModel):
    """What one account may have; None is no limit. An account may have limits of its own in the records."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vms: NonNegativeInt | None = None
    cores: NonNegativeInt | None = None
    memory: NonNegativeInt | None = None  # MiB; of each virtual machine its vm_max_memory
    disk: NonNegativeInt | None = None  # MiB, snapshots included
    addresses: NonNegativeInt | None = None  # IPv4 and IPv6, public and private
    vlans: NonNegativeInt | None = None  # each is a bridge and a DHCP server on the host


class Limits(BaseModel):
    """What one object may ask for, what one account may have, and how often one key may call."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cores: PositiveInt = Field(default_factory=lambda: max(8, os.cpu_count() or 1))
    memory: PositiveInt = 65536  # MiB
    disk_size: PositiveInt = 2 * 1024 * 1024  # MiB
    script: PositiveInt = 65535  # characters
    account: AccountLimits = AccountLimits()
    requests_per_second: PositiveFloat | None = None  # of one API key; None is no limit
    requests_burst: PositiveInt = 100  # how many of them may come at once


class Patience(BaseModel):
    """How long guests and libvirt are waited for, in seconds; the defaults for guests are the reference's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stop: PositiveFloat = 300  # then the power is cut
    stop_again: PositiveFloat = 60  # when the second stop message is sent
    reboot: PositiveFloat = 120  # then the machine is reset
    detach: PositiveFloat = 60  # then the device leaves at the next reboot
    detach_again: PositiveFloat = 10  # between requests to let go of a device
    libvirt: PositiveFloat = 30  # then what needs a libvirt that is away fails


class MigrationSettings(BaseModel):
    """How virtual machines move between datacenters.

    `finalize` ends a move as soon as everything is in step, without the second call; `bandwidth` holds a copy
    of a running machine's disks to so many MiB a second, 0 does not. What a guest writes is not held back.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    finalize: bool = False
    bandwidth: NonNegativeInt = 0


class StatisticsSettings(BaseModel):
    """How often the virtual machines are measured, and how long a graph's URL is good, in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    every: float = Field(default=60, ge=1, le=300)
    url_lifetime: PositiveInt = 3600


class ScheduleSettings(BaseModel):
    """When a profile takes snapshots, and how many of them it keeps; `every` is in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    every: PositiveInt
    kept: PositiveInt


class SnapshotProfileSettings(BaseModel):
    """A named set of schedules."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: PositiveInt
    name: str
    quota_factor: PositiveFloat = 1.0
    schedules: tuple[ScheduleSettings, ...]


class TlsSettings(BaseModel):
    """HTTPS: with a certificate and its key (files in PEM form), or with one that the service makes for
    itself, for `names` beside those that it knows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cert: Path | None = None
    key: Path | None = None
    self_signed: bool = False
    names: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9.:*-]{1,253}$")], ...] = ()

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key belong together: name both files")
        if self.self_signed and self.cert is not None:
            raise ValueError("self_signed makes a certificate: leave out cert and key")
        return self

    @property
    def on(self) -> bool:
        """Whether the API is answered by HTTPS."""
        return self.self_signed or self.cert is not None


_HOUR = 3600
_DAY = 24 * _HOUR
_DAILY = "daily"
_PROFILES = (
    SnapshotProfileSettings(
        id=1, name="minimal", quota_factor=1.2, schedules=(ScheduleSettings(name=_DAILY, every=_DAY, kept=2),)
    ),
    SnapshotProfileSettings(
        id=2,
        name="full_week",
        quota_factor=1.7,
        schedules=(ScheduleSettings(name=_DAILY, every=_DAY, kept=7),),
    ),
    SnapshotProfileSettings(
        id=3,
        name="security",
        quota_factor=2.0,
        schedules=(
            ScheduleSettings(name="hourly6", every=6 * _HOUR, kept=3),
            ScheduleSettings(name=_DAILY, every=_DAY, kept=6),
            ScheduleSettings(name="weekly4", every=28 * _DAY, kept=1),
        ),
    ),
)


class Settings(BaseSettings):
    """Everything that can be chosen."""

    model_config = SettingsConfigDict(
        env_prefix="HYPERVISOR_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    listen: str = "127.0.0.1:8080"
    state: Path = Path("/var/lib/hypervisor")
    api_key: str | None = Field(default=None, pattern=r"^[a-z0-9]{24}$", repr=False)
    libvirt_uri: str = "qemu:///system"
    database: str | None = None  # an SQLAlchemy URL; SQLite in the state folder when there is none
    threads: PositiveInt = 16
    log_format: Literal["text", "json"] = "text"
    # the networks that may read /metrics, in CIDR notation
    metrics_from: tuple[Annotated[str, AfterValidator(_network)], ...] = ("127.0.0.0/8", "::1/128")
    acceleration: Literal["auto", "kvm", "tcg"] = "auto"
    account: str = Field(default="LOCAL-GANDI", pattern=r"^[A-Z0-9-]{3,64}$")
    datacenters: tuple[DatacenterSettings, ...] = _DATACENTERS
    # the built images on offer; the first label is the image's own, clients ask for the others by default
    labels: dict[str, tuple[str, ...]] = {"tiny": ("Tiny", "Debian 8"), "debian-12": ("Debian 12",)}
    snapshot_profiles: tuple[SnapshotProfileSettings, ...] = _PROFILES
    limits: Limits = Limits()
    patience: Patience = Patience()
    migration: MigrationSettings = MigrationSettings()
    statistics: StatisticsSettings = StatisticsSettings()
    tls: TlsSettings = TlsSettings()
    # a file, in the state folder unless it begins with a slash; "off" for none
    audit_log: str = Field(default="audit.log", min_length=1)
    console_listen: str = "127.0.0.1:2222"
    console_host: str = "localhost"
    # what the URLs of graphs begin with, when that is not what the caller used
    public_url: str | None = Field(default=None, pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings passes it
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over variables, variables over the file."""
        state = Path(os.environ.get("HYPERVISOR_STATE", "/var/lib/hypervisor"))
        file = Path(os.environ.get("HYPERVISOR_CONFIG", state / "hypervisor.toml"))
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, file))

    @cached_property
    def database_url(self) -> str:
        """Where the records are."""
        return self.database or f"sqlite:///{self.state / 'store.db'}"

    @cached_property
    def workflows_url(self) -> str:
        """Where the progress of running work is kept."""
        return f"sqlite:///{self.workflows_file}"

    @cached_property
    def workflows_file(self) -> Path:
        """The same as a file."""
        return self.state / "workflows.db"

    @cached_property
    def statistics_file(self) -> Path:
        """Where the samples are."""
        return self.state / "statistics.db"

    @property
    def scheme(self) -> Literal["http", "https"]:
        """What the URLs of the service begin with."""
        return "https" if self.tls.on else "http"

    @cached_property
    def certificate(self) -> tuple[Path, Path]:
        """The certificate that is shown, and its key; those made by the service itself are in the state
        folder."""
        if self.tls.cert is not None and self.tls.key is not None:
            return self.tls.cert, self.tls.key
        return self.state / "tls-cert.pem", self.state / "tls-key.pem"

    @cached_property
    def pools(self) -> Path:
        """The folder of the storage pools."""
        return self.state / "pools"

    @cached_property
    def audit_file(self) -> Path | None:
        """Where it is written who changed what; None when it is not."""
        return None if self.audit_log == "off" else self.state / self.audit_log

    @cached_property
    def logs(self) -> Path:
        """The folder of the guests' console logs."""
        return self.state / "console"

    @cached_property
    def host_key(self) -> Path:
        """The key of the consoles' SSH server."""
        return self.state / "console_host_key"

    @cached_property
    def images(self) -> Path:
        """The folder of built images."""
        return self.state / "images"
