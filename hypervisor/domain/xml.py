"""`DomainSpec` to libvirt's domain XML and back (https://libvirt.org/formatdomain.html)."""

from pathlib import Path

from lxml import etree
from lxml.builder import E, ElementMaker

from hypervisor.domain.check import check_disk, check_domain, check_interface
from hypervisor.domain.spec import DiskSpec, DomainSpec, InterfaceSpec
from hypervisor.network import tap_of

NAMESPACE = "urn:hypervisor:domain:1"
NOTES = "urn:hypervisor:notes:1"  # libvirt keeps one element of each namespace
_OURS = ElementMaker(namespace=NAMESPACE, nsmap={"hypervisor": NAMESPACE})
_NOTES = ElementMaker(namespace=NOTES, nsmap={"notes": NOTES})
_PARSER = etree.XMLParser(resolve_entities=False, no_network=True)

# emulating these costs a guest a fifth of its boot time, and no guest needs them
_COSTLY_FEATURES = ("avx", "xsave", "la57")


def render(spec: DomainSpec) -> str:
    """The XML that defines `spec`; raises `SpecError` for what a domain cannot have."""
    check_domain(spec)
    root = E.domain(
        E.name(spec.name),
        E.uuid(spec.uuid),
        E.metadata(labels_element(spec.labels), *([_NOTES.notes(spec.notes)] if spec.notes else [])),
        E.memory(str(spec.max_memory), unit="MiB"),
        E.currentMemory(str(spec.memory), unit="MiB"),
        E.vcpu(str(spec.max_vcpus), placement="static", current=str(spec.vcpus)),
        E.os(E.type("hvm", arch="x86_64", machine="q35")),
        E.features(E.acpi(), E.apic()),
        _cpu(spec.accelerated),
        E.clock(offset="utc"),
        E.on_poweroff("destroy"),
        E.on_reboot("restart"),
        E.on_crash("destroy"),
        E.devices(
            E.controller(type="pci", index="0", model="pcie-root"),
            # nothing is on it, and it would take a port
            E.controller(type="usb", model="none"),
            *(E.controller(type="pci", model="pcie-root-port") for _ in range(_ports(spec))),
            *(disk_element(disk) for disk in spec.disks),
            *(interface_element(interface) for interface in spec.interfaces),
            *_serial(spec.console_log),
            E.channel(E.target(type="virtio", name="org.qemu.guest_agent.0"), type="unix"),
            E.memballoon(E.stats(period="10"), model="virtio"),
            E.rng(E.backend("/dev/urandom", model="random"), model="virtio"),
            E.input(type="keyboard", bus="ps2"),
        ),
        type="kvm" if spec.accelerated else "qemu",
    )
    return etree.tostring(root, encoding="unicode")


def _cpu(accelerated: bool) -> etree._Element:
    if accelerated:
        return E.cpu(mode="host-passthrough", check="none")
    return E.cpu(
        *(E.feature(policy="disable", name=name) for name in _COSTLY_FEATURES), mode="maximum", check="none"
    )


# a root port for each device that takes one: the disks, the interfaces, and serial, balloon and rng
_FIXED_DEVICES = 3


def _ports(spec: DomainSpec) -> int:
    return _FIXED_DEVICES + len(spec.disks) + len(spec.interfaces) + spec.hotplug_ports


def _serial(log: Path | None) -> list[etree._Element]:
    # made anew, with its rotated parts, at each power-on; a reboot goes on with it
    logged = [] if log is None else [E.log(file=str(log), append="off")]
    return [
        E.serial(*logged, E.target(type="isa-serial", port="0"), type="pty"),
        E.console(E.target(type="serial", port="0"), type="pty"),
    ]


def disk_element(disk: DiskSpec) -> etree._Element:
    """The ``<disk>`` of `disk`; raises `SpecError`."""
    check_disk(disk)
    # a path and not pool + volume: the security drivers' profile programs do not resolve volumes
    element = E.disk(
        E.driver(name="qemu", type=disk.format, discard="unmap"),
        E.source(file=str(disk.path)),
        E.target(dev=disk.target, bus="virtio"),
        type="file",
        device="disk",
    )
    if disk.readonly:
        element.append(E.readonly())
    if disk.serial is not None:
        element.append(E.serial(disk.serial))
    if disk.boot is not None:
        element.append(E.boot(order=str(disk.boot)))
    element.append(E.alias(name=disk.alias))
    return element


def interface_element(interface: InterfaceSpec) -> etree._Element:
    """The ``<interface>`` of `interface`; raises `SpecError`."""
    check_interface(interface)
    return E.interface(
        E.mac(address=interface.mac),
        E.source(network=interface.network),
        # what the host knows of the guest's frames follows from this name (`network.isolation`)
        E.target(dev=tap_of(interface.mac)),
        E.model(type="virtio"),
        # nobody boots from the network, and running it was a twelfth of an emulated boot
        E.rom(enabled="no"),
        E.alias(name=interface.alias),
        type="network",
    )


def labels_element(labels: dict[str, str]) -> etree._Element:
    """Our element in a domain's metadata."""
    return _OURS.labels(dict(sorted(labels.items())))


def parse(xml: str) -> DomainSpec:
    """What a domain of ours is made of, read from its XML; what libvirt added is left out."""
    root = etree.fromstring(xml.encode(), _PARSER)
    devices = _find(root, "devices")
    disks = tuple(_disk(element) for element in devices.findall("disk"))
    interfaces = tuple(_interface(element) for element in devices.findall("interface"))
    log = devices.find("serial/log")
    vcpu = _find(root, "vcpu")
    ports = len(devices.findall("controller[@model='pcie-root-port']"))
    return DomainSpec(
        uuid=_text(root, "uuid"),
        name=_text(root, "name"),
        vcpus=int(vcpu.get("current") or vcpu.text or 0),
        max_vcpus=int(vcpu.text or 0),
        memory=_mebibytes(_find(root, "currentMemory")),
        max_memory=_mebibytes(_find(root, "memory")),
        accelerated=root.get("type") == "kvm",
        console_log=None if log is None else Path(log.get("file", "")),
        disks=disks,
        interfaces=interfaces,
        labels=_labels(root),
        hotplug_ports=max(0, ports - _FIXED_DEVICES - len(disks) - len(interfaces)),
        notes=root.findtext(f"metadata/{{{NOTES}}}notes") or "",
    )


def aliases(xml: str) -> dict[str, str]:
    """Our names of a running domain's disks and interfaces, by ``vda`` and by the interface on the host."""
    devices = _find(etree.fromstring(xml.encode(), _PARSER), "devices")
    return {
        _attribute(element, "target", "dev"): _attribute(element, "alias", "name")
        for element in devices
        if element.tag in ("disk", "interface")
    }


def parse_labels(xml: str) -> dict[str, str]:
    """Our marks in a domain's XML; empty for a domain that is not ours."""
    return _labels(etree.fromstring(xml.encode(), _PARSER))


def _labels(root: etree._Element) -> dict[str, str]:
    element = root.find(f"metadata/{{{NAMESPACE}}}labels")
    return {} if element is None else {str(key): str(value) for key, value in element.attrib.items()}


def _disk(element: etree._Element) -> DiskSpec:
    boot = element.find("boot")
    serial = element.find("serial")
    return DiskSpec(
        alias=_attribute(element, "alias", "name"),
        path=Path(_attribute(element, "source", "file")),
        target=_attribute(element, "target", "dev"),
        format=_attribute(element, "driver", "type"),
        readonly=element.find("readonly") is not None,
        boot=None if boot is None else int(boot.get("order", "0")),
        serial=None if serial is None else serial.text,
    )


def _interface(element: etree._Element) -> InterfaceSpec:
    return InterfaceSpec(
        alias=_attribute(element, "alias", "name"),
        mac=_attribute(element, "mac", "address"),
        network=_attribute(element, "source", "network"),
    )


_UNITS = {"KiB": 1024, "MiB": 1, "GiB": 1 / 1024}


def _mebibytes(element: etree._Element) -> int:
    return int(int(element.text or 0) / _UNITS[element.get("unit", "KiB")])


def _find(element: etree._Element, path: str) -> etree._Element:
    found = element.find(path)
    if found is None:
        raise ValueError(f"the domain's XML has no <{path}>")
    return found


def _text(element: etree._Element, path: str) -> str:
    return _find(element, path).text or ""


def _attribute(element: etree._Element, path: str, name: str) -> str:
    found = element.find(path)
    return "" if found is None else found.get(name, "")
