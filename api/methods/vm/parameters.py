"""The parameter tables of ``hosting.vm``, as the reference has them."""

from typing import Annotated

from pydantic import AfterValidator, Field

from api.methods.faults import Cause, Object
from api.methods.filters import IntFilter, Page, Pattern, TextFilter
from api.methods.ids import DatacenterId, DiskId, IfaceId, KeyIds
from api.methods.parameters import (
    Date,
    Double,
    Hostname,
    Int,
    IpVersion,
    Memory,
    Parameters,
    Text,
    Texts,
    invalid,
)
from api.methods.public_key import parse_public_key


def _login(value: str) -> str:
    # useradd's own rule (Debian's NAME_REGEX): the guest could not make any other
    if not value or len(value) > 32 or not value[0].isalpha() or not value.islower() or not value.isascii():
        raise invalid(
            Object.STRING, Cause.BADPARAMETER, "login: use 1 to 32 lower-case letters, digits, - and _"
        )
    if not value.replace("-", "").replace("_", "").isalnum() or value == "root":
        raise invalid(Object.STRING, Cause.BADPARAMETER, f"login: {value!r} is not the name of a new account")
    return value


def _password(value: str) -> str:
    if not value or len(value) > 128 or not value.isprintable():
        raise invalid(Object.STRING, Cause.BADPARAMETER, "password: use 1 to 128 printable characters")
    return value


def _public_keys(value: list[str]) -> list[str]:
    try:
        return [str(parse_public_key(line)) for text in value for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise invalid(Object.STRING, Cause.BADPARAMETER, f"ssh_key: {error}") from None


def _script(value: str) -> str:
    if "\0" in value:
        raise invalid(Object.STRING, Cause.BADPARAMETER, "it holds a NUL character")
    return value


def _cores(value: int) -> int:
    if value < 1:
        raise invalid(Object.VM, Cause.BADPARAMETER, f"cores {value} is not positive")
    return value


Login = Annotated[str, AfterValidator(_login)]
Password = Annotated[str, AfterValidator(_password)]
PublicKeys = Annotated[Texts, AfterValidator(_public_keys)]
Script = Annotated[Text, AfterValidator(_script)]
Farm = Annotated[str, Field(max_length=255)]
Cores = Annotated[Int, AfterValidator(_cores)]


class BootParameters(Parameters):
    """What a guest is told when it boots (the reference's VMStart)."""

    farm: Farm | None = None
    keys: KeyIds = Field(default_factory=list)
    login: Login | None = None
    password: Password | None = None
    run: Script | None = None
    script: Script | None = None
    script_args: Script | None = None
    ssh_key: PublicKeys = Field(default_factory=list)


class VMStart(BootParameters):
    """Parameters of ``hosting.vm.start``."""


class VMCreateFromDescription(BootParameters):
    """The VM of ``hosting.vm.create_from``. Memory is in MiB, bandwidth in kbit/s."""

    datacenter_id: DatacenterId
    ai_active: Int = 0
    bandwidth: Annotated[Double, Field(gt=0, le=10_000_000)] = 102400.0
    cores: Cores = 1
    hostname: Hostname | None = None
    iface_id: IfaceId | None = None
    ip_version: IpVersion = 4
    memory: Memory = 512
    shares: Int | None = None
    vm_max_memory: Memory | None = None


class VMDescription(VMCreateFromDescription):
    """The VM of ``hosting.vm.create``, whose system disk exists."""

    sys_disk_id: DiskId


class VMUpdate(Parameters):
    """What ``hosting.vm.update`` may change; `shares` has no effect. Memory is in MiB."""

    console: bool | None = None
    cores: Cores | None = None
    hostname: Hostname | None = None
    memory: Memory | None = None
    password: Password | None = None
    shares: Int | None = None
    vm_max_memory: Memory | None = None


class VMDiskAttachOptions(Parameters):
    """How ``hosting.vm.disk_attach`` attaches."""

    access: Text = "read/write"
    position: Int | None = None


class VMCountOptions(Parameters):
    """Filters of ``hosting.vm.count``."""

    cores: IntFilter | None = None
    datacenter_id: IntFilter | None = None
    date_created: Date | None = None
    farm: TextFilter | None = None
    hostname: TextFilter | None = None
    id: IntFilter | None = None
    memory: IntFilter | None = None
    state: TextFilter | None = None
    hostname_like: Pattern | None = Field(default=None, alias="~hostname")


class VMListOptions(VMCountOptions, Page):
    """Filters, order and page of ``hosting.vm.list``."""
