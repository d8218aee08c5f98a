"""The tables. Ids are never used twice and stay below 2**31, the largest integer of the wire format."""

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import JSON, Double, ForeignKey, Index, MetaData, String, UniqueConstraint, and_, false, text
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedColumn,
    foreign,
    mapped_column,
    relationship,
    remote,
)


def now() -> datetime:
    """The present second in UTC without a zone, as the wire format carries it."""
    return datetime.now(UTC).replace(microsecond=0, tzinfo=None)


class Record(DeclarativeBase):
    """A row."""

    __abstract__ = True
    # a constraint needs a name before a later migration can change it
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    __table_args__: Any = {"sqlite_autoincrement": True}  # noqa: RUF012 - typed by SQLAlchemy
    type_annotation_map: ClassVar = {dict[str, Any]: JSON, list[str]: JSON}


def _id() -> MappedColumn[int]:
    return mapped_column(primary_key=True)


def _created() -> MappedColumn[datetime]:
    return mapped_column(default=now)


def _updated() -> MappedColumn[datetime]:
    return mapped_column(default=now, onupdate=now)


class Account(Record):
    """Who owns objects; several API keys may speak for one account."""

    __tablename__ = "account"
    id: Mapped[int] = _id()
    handle: Mapped[str] = mapped_column(String(64), unique=True)
    fullname: Mapped[str] = mapped_column(String(255), default="")
    date_created: Mapped[datetime] = _created()
    # what it may have of a kind, where that differs from the settings; None is no limit
    limits: Mapped[dict[str, Any] | None]


class ApiKey(Record):
    """An API key, kept as the SHA-256 of its 24 random characters (124 bits: no salt, no stretching)."""

    __tablename__ = "api_key"
    id: Mapped[int] = _id()
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    label: Mapped[str] = mapped_column(String(255), default="")
    date_created: Mapped[datetime] = _created()
    date_revoked: Mapped[datetime | None]
    date_expires: Mapped[datetime | None]  # from then on it is an unknown one
    read_only: Mapped[bool] = mapped_column(default=False, server_default=false())
    account: Mapped[Account] = relationship(lazy="joined", innerjoin=True)


class Datacenter(Record):
    """One storage pool and one network of one libvirt host."""

    __tablename__ = "datacenter"
    id: Mapped[int] = _id()
    dc_code: Mapped[str] = mapped_column(String(16), unique=True)
    iso: Mapped[str] = mapped_column(String(2))
    name: Mapped[str] = mapped_column(String(255))
    country: Mapped[str] = mapped_column(String(255))
    iaas_closed_for: Mapped[str] = mapped_column(String(8), default="NONE")
    paas_closed_for: Mapped[str] = mapped_column(String(8), default="ALL")
    deactivate_at: Mapped[datetime | None]
    pool: Mapped[str] = mapped_column(String(64))
    network: Mapped[str] = mapped_column(String(64))
    ipv4: Mapped[str] = mapped_column(String(18))  # the gateway's address with its prefix
    ipv6: Mapped[str] = mapped_column(String(43))
    libvirt_uri: Mapped[str | None] = mapped_column(String(255))  # None: the service's own
    migration_address: Mapped[str | None] = mapped_column(String(253))  # None: the host in the URI


class Image(Record):
    """A system disk to create from; the same label stands once per datacenter."""

    __tablename__ = "image"
    id: Mapped[int] = _id()
    datacenter_id: Mapped[int] = mapped_column(ForeignKey("datacenter.id"))
    disk_id: Mapped[int] = mapped_column(ForeignKey("disk.id"))
    label: Mapped[str] = mapped_column(String(255))
    os_arch: Mapped[str] = mapped_column(String(16), default="x86-64")
    kernel_version: Mapped[str] = mapped_column(String(64), default="raw")
    visibility: Mapped[str] = mapped_column(String(16), default="all")
    date_created: Mapped[datetime] = _created()
    date_updated: Mapped[datetime] = _updated()
    disk: Mapped["Disk"] = relationship(lazy="joined", innerjoin=True)
    __table_args__ = (UniqueConstraint("datacenter_id", "label"), {"sqlite_autoincrement": True})


class Disk(Record):
    """A volume. One without an account is an image's: everybody may create from it, nobody may change it."""

    __tablename__ = "disk"
    id: Mapped[int] = _id()
    account_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"), index=True)
    datacenter_id: Mapped[int] = mapped_column(ForeignKey("datacenter.id"))
    name: Mapped[str] = mapped_column(String(255), index=True)
    size: Mapped[int]  # MiB
    type: Mapped[str] = mapped_column(String(16), default="data")  # data, snapshot
    state: Mapped[str] = mapped_column(String(16), default="being_created")
    visibility: Mapped[str] = mapped_column(String(16), default="private")
    label: Mapped[str | None] = mapped_column(String(255))
    source_id: Mapped[int | None]
    kernel_version: Mapped[str | None] = mapped_column(String(64))
    kernel_cmdline: Mapped[dict[str, Any] | None]
    snapshot_profile_id: Mapped[int | None]
    volume: Mapped[str] = mapped_column(String(64))  # name in the datacenter's pool
    vm_id: Mapped[int | None] = mapped_column(ForeignKey("vm.id"), index=True)
    position: Mapped[int | None]
    access: Mapped[str] = mapped_column(String(16), default="read/write")  # read, read/write
    leaving: Mapped[bool] = mapped_column(default=False)  # detached, but the guest has not let go yet
    schedule: Mapped[str | None] = mapped_column(String(32))  # of the profile that made this snapshot
    date_created: Mapped[datetime] = _created()
    date_updated: Mapped[datetime] = _updated()
    snapshots: Mapped[list["Disk"]] = relationship(
        # those that others made of an image's disk are theirs
        primaryjoin=lambda: and_(
            Disk.id == foreign(remote(Disk.source_id)),
            Disk.account_id == remote(Disk.account_id),
            remote(Disk.type) == "snapshot",
        ),
        order_by=lambda: remote(Disk.id),
        lazy="selectin",
        join_depth=1,
        viewonly=True,
    )


class Vm(Record):
    """A virtual machine. A deleted one keeps its row, so that its id still says what became of it."""

    __tablename__ = "vm"
    id: Mapped[int] = _id()
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), index=True)
    datacenter_id: Mapped[int] = mapped_column(ForeignKey("datacenter.id"))
    uuid: Mapped[str] = mapped_column(String(36), unique=True)
    hostname: Mapped[str] = mapped_column(String(253), index=True)
    state: Mapped[str] = mapped_column(String(16), default="being_created")
    cores: Mapped[int]
    memory: Mapped[int]  # MiB
    vm_max_memory: Mapped[int]  # MiB
    farm: Mapped[str | None] = mapped_column(String(255))
    description: Mapped[str | None]
    console: Mapped[bool] = mapped_column(default=False)
    seed: Mapped[dict[str, Any]]  # what the guest is told at its first boot; passwords as crypt(3) hashes
    seed_version: Mapped[int] = mapped_column(default=1)  # a new one is a new first boot
    is_migrating: Mapped[bool] = mapped_column(default=False)
    date_created: Mapped[datetime] = _created()
    date_updated: Mapped[datetime] = _updated()
    disks: Mapped[list[Disk]] = relationship(order_by=Disk.position, viewonly=True)
    ifaces: Mapped[list["Iface"]] = relationship(order_by="Iface.num", viewonly=True)
    triggers: Mapped[list["VmTrigger"]] = relationship(order_by="VmTrigger.id", viewonly=True)


class VmTrigger(Record):
    """A watch on what a virtual machine uses, made by an administrator; it is gone when the VM is deleted."""

    __tablename__ = "vm_trigger"
    id: Mapped[int] = _id()
    vm_id: Mapped[int] = mapped_column(ForeignKey("vm.id"), index=True)
    datasource: Mapped[str] = mapped_column(String(32))  # one of `api.store.metrics.QUERIES`
    device_type: Mapped[str] = mapped_column(String(16))  # cpu, disk, iface
    device_number: Mapped[int]  # a disk's position, an interface's num, 0 for the processors
    min_value: Mapped[int | None]
    max_value: Mapped[int | None]
    duration: Mapped[int]  # seconds
    recovery_duration: Mapped[int]  # seconds
    date_created: Mapped[datetime] = _created()


class Vlan(Record):
    """A private network of an account."""

    __tablename__ = "vlan"
    id: Mapped[int] = _id()
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), index=True)
    datacenter_id: Mapped[int] = mapped_column(ForeignKey("datacenter.id"))
    name: Mapped[str] = mapped_column(String(255))
    subnet: Mapped[str] = mapped_column(String(18))
    gateway: Mapped[str | None] = mapped_column(String(15))
    network: Mapped[str] = mapped_column(String(64))  # libvirt's
    state: Mapped[str] = mapped_column(String(16), default="being_created")
    date_created: Mapped[datetime] = _created()
    date_updated: Mapped[datetime] = _updated()


class Iface(Record):
    """A network interface; public when it is on no vlan."""

    __tablename__ = "iface"
    id: Mapped[int] = _id()
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), index=True)
    datacenter_id: Mapped[int] = mapped_column(ForeignKey("datacenter.id"))
    vlan_id: Mapped[int | None] = mapped_column(ForeignKey("vlan.id"))
    mac: Mapped[str] = mapped_column(String(17), unique=True)
    bandwidth: Mapped[float] = mapped_column(Double)  # kbit/s
    state: Mapped[str] = mapped_column(String(16), default="being_created")
    vm_id: Mapped[int | None] = mapped_column(ForeignKey("vm.id"), index=True)
    num: Mapped[int | None]
    leaving: Mapped[bool] = mapped_column(default=False)  # detached, but the guest has not let go yet
    date_created: Mapped[datetime] = _created()
    date_updated: Mapped[datetime] = _updated()
    ips: Mapped[list["Ip"]] = relationship(order_by="Ip.num", lazy="selectin", viewonly=True)
    vlan: Mapped[Vlan | None] = relationship(lazy="joined", viewonly=True)


class Ip(Record):
    """An address of an interface."""

    __tablename__ = "ip"
    id: Mapped[int] = _id()
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), index=True)
    datacenter_id: Mapped[int] = mapped_column(ForeignKey("datacenter.id"))
    iface_id: Mapped[int] = mapped_column(ForeignKey("iface.id"), index=True)
    vlan_id: Mapped[int | None] = mapped_column(ForeignKey("vlan.id"))
    ip: Mapped[str] = mapped_column(String(39))
    version: Mapped[int]
    num: Mapped[int]
    reverse: Mapped[str] = mapped_column(String(255), default="")
    state: Mapped[str] = mapped_column(String(16), default="being_created")
    date_created: Mapped[datetime] = _created()
    date_updated: Mapped[datetime] = _updated()
    __table_args__ = (
        # private subnets may be the same on two vlans
        Index(
            "public_ip",
            "datacenter_id",
            "ip",
            unique=True,
            sqlite_where=text("vlan_id IS NULL"),
            postgresql_where=text("vlan_id IS NULL"),
        ),
        UniqueConstraint("vlan_id", "ip"),
        {"sqlite_autoincrement": True},
    )


class SshKey(Record):
    """A public key that an account keeps to hand to its virtual machines."""

    __tablename__ = "ssh_key"
    id: Mapped[int] = _id()
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"))
    name: Mapped[str] = mapped_column(String(255))
    value: Mapped[str]
    fingerprint: Mapped[str] = mapped_column(String(47))
    date_created: Mapped[datetime] = _created()
    __table_args__ = (UniqueConstraint("account_id", "name"), {"sqlite_autoincrement": True})


class Job(Record):
    """One accepted call: the workflow that does it, what it was given, its one operation or several."""

    __tablename__ = "job"
    id: Mapped[int] = _id()
    workflow: Mapped[str] = mapped_column(String(32))
    arguments: Mapped[dict[str, Any]]
    started: Mapped[bool] = mapped_column(default=False)
    told: Mapped[str | None] = mapped_column(String(16))  # what its caller wants of it now: finalize, cancel
    date_created: Mapped[datetime] = _created()
    operations: Mapped[list["Operation"]] = relationship(order_by="Operation.id", back_populates="job")
    claims: Mapped[list["Claim"]] = relationship(cascade="all, delete-orphan", back_populates="job")


class Claim(Record):
    """An unfinished job's hold on an object: jobs that share one run in the order of their acceptance."""

    __tablename__ = "claim"
    resource: Mapped[str] = mapped_column(String(32), primary_key=True)  # "vm:12", "disk:7"
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), primary_key=True, index=True)
    job: Mapped[Job] = relationship(back_populates="claims")
    __table_args__ = ()


class Operation(Record):
    """What a client polls: one action of a job, with its step."""

    __tablename__ = "operation"
    id: Mapped[int] = _id()
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"))
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), index=True)
    type: Mapped[str] = mapped_column(String(32))
    step: Mapped[str] = mapped_column(String(8), default="WAIT")
    vm_id: Mapped[int | None] = mapped_column(index=True)
    disk_id: Mapped[int | None]
    iface_id: Mapped[int | None]
    ip_id: Mapped[int | None]
    source: Mapped[str] = mapped_column(String(64))
    params: Mapped[dict[str, Any]]
    last_error: Mapped[str | None]
    errortype: Mapped[str | None] = mapped_column(String(64))
    eta: Mapped[int] = mapped_column(default=0)  # seconds, as estimated when it was accepted
    date_created: Mapped[datetime] = _created()
    date_updated: Mapped[datetime] = _updated()
    date_start: Mapped[datetime | None]
    job: Mapped[Job] = relationship(back_populates="operations")
    __table_args__ = (
        Index("operation_of_account", "account_id", "step", "id"),
        {"sqlite_autoincrement": True},
    )
