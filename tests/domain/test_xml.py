"""What is rendered is read back, by us and by libvirt."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import libvirt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from hypervisor.domain import power
from hypervisor.domain.check import SpecError
from hypervisor.domain.spec import DiskSpec, DomainSpec, InterfaceSpec
from hypervisor.domain.xml import disk_element, interface_element, parse, parse_labels, render
from tests.domain.conftest import NewSpec, disks, interfaces

UUID = "5a7b1c9e-52a0-4f0a-9d5c-0123456789ab"
PLAIN = DomainSpec(UUID, "plain", 1, 1, 64, 64, False)
DISK = DiskSpec("ua-disk", Path("/disk"), "vda")
INTERFACE = InterfaceSpec("ua-iface", "52:54:00:00:00:01", "net")

# quotes, markup, entities and everything printable of any plane
hostile = st.sampled_from(
    ["<", "&", "'", '"', ">", "]]>", "&amp;", "<!--", "${x}", "%s", "é", "\U0001f600", "\xa0"]
)
lines = st.lists(
    hostile | st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="/\ufffe\uffff"),
    min_size=1,
    max_size=20,
).map("".join)
names = lines.filter(lambda text: bool(text.strip()))
paths = st.lists(names, min_size=1, max_size=4).map(lambda parts: Path("/", *parts))
texts = st.lists(
    hostile
    | st.sampled_from(["\n", "\r", "\t"])
    | st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"),
    max_size=30,
).map("".join)
aliases = st.from_regex(r"ua-[A-Za-z0-9_-]{1,20}", fullmatch=True)
disk_specs = st.builds(
    DiskSpec,
    aliases,
    paths,
    st.from_regex(r"vd[a-z]", fullmatch=True),
    st.sampled_from(["qcow2", "raw"]),
    st.booleans(),
    st.none() | st.integers(1, 99),
    st.none() | st.from_regex(r"[A-Za-z0-9_.+-][A-Za-z0-9_.+ -]{0,19}", fullmatch=True),
)
interface_specs = st.builds(
    InterfaceSpec, aliases, st.from_regex(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}", fullmatch=True), names
)


@st.composite
def domain_specs(draw: st.DrawFn) -> DomainSpec:
    max_vcpus, max_memory = draw(st.integers(1, 288)), draw(st.integers(1, 2**24))
    labels = st.dictionaries(st.from_regex(r"(?!xml)[A-Za-z_][A-Za-z0-9_.-]{0,9}", fullmatch=True), texts)
    return DomainSpec(
        uuid=str(draw(st.uuids())),
        name=draw(names),
        vcpus=draw(st.integers(1, max_vcpus)),
        max_vcpus=max_vcpus,
        memory=draw(st.integers(1, max_memory)),
        max_memory=max_memory,
        accelerated=draw(st.booleans()),
        console_log=draw(st.none() | paths),
        disks=tuple(draw(st.lists(disk_specs, max_size=24))),
        interfaces=tuple(draw(st.lists(interface_specs, max_size=8))),
        labels=draw(labels),
        hotplug_ports=draw(st.integers(0, 30)),
        notes=draw(lines.map(str.strip)),
    )


@given(domain_specs())
def test_parse_reads_what_render_wrote(spec: DomainSpec) -> None:
    assert parse(render(spec)) == spec
    assert parse_labels(render(spec)) == spec.labels


def test_devices_stand_alone() -> None:
    xml = [
        etree.tostring(one, encoding="unicode") for one in (disk_element(DISK), interface_element(INTERFACE))
    ]
    assert xml[0].startswith("<disk ")
    assert xml[1].startswith("<interface ")


CONTROL = ["\0", "\x01", "\x1b", "\x7f", "\x85", "\u2028", "\ud800", "\ufffe"]
NOT_A_LINE = [*CONTROL, "\n", "\r", "\t"]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("name", ["", "  ", "a/b", *NOT_A_LINE]),
        ("uuid", ["", "nope", UUID.upper(), UUID.replace("-", "")]),
        ("console_log", [Path("relative"), *(Path(f"/a{bad}b") for bad in NOT_A_LINE)]),
        ("vcpus", [0, -1, 2]),
        ("memory", [0, 65]),
        ("hotplug_ports", [-1]),
        ("labels", [{key: "x"} for key in ("", "a b", "1", "a:b", "{urn:x}a", "xmlns", "é", "a\n")]),
        ("labels", [{"key": bad} for bad in CONTROL if bad not in ("\x7f", "\x85", "\u2028")]),
    ],
)
def test_refuses_a_domain(field: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(SpecError, match=f"a domain cannot have the {field}"):
            render(replace(PLAIN, **{field: value}))


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("alias", ["", "disk", "ua-", "ua-a b", "ua-é", "ua-x\n"]),
        ("path", [Path("relative"), Path("/"), *(Path(f"/a{bad}b") for bad in NOT_A_LINE)]),
        ("target", ["", "sda", "vd", "vda\n", "vd'"]),
        ("format", ["", "<", "qcow2 "]),
        ("serial", ["", "a<", "a\n", "x" * 21]),
        ("boot", [0, -1]),
    ],
)
def test_refuses_a_disk(field: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(SpecError, match=f"{field} of a disk"):
            render(replace(PLAIN, disks=(replace(DISK, **{field: value}),)))


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("alias", ["iface", "ua-/"]),
        ("mac", ["", "52:54:00:00:00", "52:54:00:AA:00:00", "01:00:5e:00:00:01", "52:54:00:00:00:01\n"]),
        ("network", ["", " ", *NOT_A_LINE]),
    ],
)
def test_refuses_an_interface(field: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(SpecError, match=f"{field} of an interface"):
            render(replace(PLAIN, interfaces=(replace(INTERFACE, **{field: value}),)))


@pytest.mark.lab
@pytest.mark.parametrize("ports", [0, 8])
@pytest.mark.parametrize(("disk_count", "interface_count"), [(0, 0), (1, 1), (3, 2), (24, 8)])
def test_libvirt_gives_back_what_it_was_given(
    connection: libvirt.virConnect, new_spec: NewSpec, disk_count: int, interface_count: int, ports: int
) -> None:
    spec = new_spec(
        name=f"x <&\"'é ]]> {disk_count} {interface_count} {ports}",
        console_log=Path("/tmp/ <&\"'é,x=y.log"),
        disks=disks(disk_count),
        interfaces=interfaces(interface_count),
        labels={"vm": "1", "note": "<&\"'é\r\n\t ]]> \U0001f600", "empty": ""},
        hotplug_ports=ports,
    )
    connection.defineXMLFlags(render(spec), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    assert power.read(connection, spec.uuid) == spec
    assert power.labels(connection, spec.uuid) == spec.labels


@pytest.mark.lab
def test_kvm_domains_are_valid_too(connection: libvirt.virConnect, new_spec: NewSpec) -> None:
    spec = new_spec(accelerated=True)
    connection.defineXMLFlags(render(spec), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    assert power.read(connection, spec.uuid) == spec


@pytest.mark.lab
def test_the_ports_that_are_kept_free_are_free(
    connection: libvirt.virConnect, new_spec: NewSpec, network: str
) -> None:
    spec = new_spec(interfaces=interfaces(1), hotplug_ports=3)
    power.define(connection, spec)
    power.start(connection, spec.uuid)
    domain = power.lookup(connection, spec.uuid)
    for number in range(1, 4):
        added = replace(interfaces(1)[0], alias=f"ua-added-{number}", mac=f"52:54:00:00:02:{number:02x}")
        xml = etree.tostring(interface_element(added), encoding="unicode")
        domain.attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    with pytest.raises(libvirt.libvirtError, match="No more available PCI slots"):
        domain.attachDeviceFlags(
            f"<interface type='network'><source network='{network}'/><model type='virtio'/></interface>",
            libvirt.VIR_DOMAIN_AFFECT_LIVE,
        )
