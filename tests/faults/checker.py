"""Whether records, libvirt, pools, bridges and addresses agree: looked at without the service's code."""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import IPv6Address
from pathlib import Path

import libvirt
from lxml import etree

from tests.faults.records import Records, Row

_SHOWN = {libvirt.VIR_DOMAIN_RUNNING: "running", libvirt.VIR_DOMAIN_BLOCKED: "running"}
_SHOWN |= {libvirt.VIR_DOMAIN_PAUSED: "paused", libvirt.VIR_DOMAIN_SHUTOFF: "halted"}
_NAME = re.compile(r"vm-(\d+)")
# named after their MACs
_TAP = re.compile(r"hv[0-9a-f]{12}")


@dataclass(frozen=True)
class Domain:
    """A machine as libvirt has it."""

    name: str
    uuid: str
    state: str
    defined: etree._Element
    live: etree._Element | None


@dataclass(frozen=True)
class Checker:
    """Looks at one service's part of the host: its domains have numbers from `first_vm` on, a thousand."""

    connection: libvirt.virConnect
    state: Path
    first_vm: int

    @property
    def pools(self) -> Path:
        """The folder of the pools."""
        return self.state / "pools"

    def lost(self, records: Records, domains: list[Domain]) -> Iterator[str]:
        """Records without their object, or with one that is otherwise."""
        by_name = {one.name: one for one in domains}
        for vm in records.living:
            domain = by_name.get(f"vm-{vm['id']}")
            if domain is None:
                yield f"vm#{vm['id']} ({vm['state']}) has no domain"
            else:
                yield from (f"vm#{vm['id']}: {what}" for what in self._machine(records, vm, domain))
        for disk in records.disk:
            yield from (f"disk#{disk['id']}: {what}" for what in self._disk(records, disk))
        for iface in records.iface:
            yield from (f"iface#{iface['id']}: {what}" for what in _iface(records, iface))
        missing, _ = self._reservations(records)
        yield from missing

    def leaked(self, records: Records, domains: list[Domain]) -> Iterator[str]:
        """Objects of ours without an owner."""
        names = {f"vm-{one['id']}" for one in records.living}
        yield from (f"domain {one.name} has no record" for one in domains if one.name not in names)
        owned = {str(records.volume(disk, self.pools)) for disk in records.disk}
        owned |= {str(self.pools / records.place(vm)["pool"] / _seed(vm)) for vm in records.living}
        # what an image is called is beside it
        owned |= {f"{one.removesuffix('.qcow2')}.json" for one in owned if "/image-" in one}
        for place in records.datacenter:
            folder = self.pools / place["pool"]
            files = {str(one) for one in folder.iterdir()}
            yield from (f"{one} belongs to nobody" for one in sorted(files - owned))
            pool = self.connection.storagePoolLookupByName(place["pool"])
            pool.refresh()
            listed = {one.path() for one in pool.listAllVolumes()}
            yield from (f"volume {one} is no file" for one in sorted(listed - files))
        logs = {f"{one['uuid']}.log" for one in records.living}
        for log in (self.state / "console").iterdir():
            if not any(log.name.startswith(one) for one in logs):
                yield f"console log {log.name} belongs to nobody"
        faces = {one["id"] for one in records.iface}
        yield from (
            f"address {one['ip']} has no interface" for one in records.ip if one["iface_id"] not in faces
        )
        _, surplus = self._reservations(records)
        yield from surplus
        yield from self._kernel(records, domains)

    def domains(self) -> list[Domain]:
        """The service's domains."""
        found = []
        for one in self.connection.listAllDomains():
            match = _NAME.fullmatch(one.name())
            if match and 0 <= int(match[1]) - self.first_vm < 1000:
                number = one.state()[0]
                found.append(
                    Domain(
                        one.name(),
                        one.UUIDString(),
                        _SHOWN.get(number, f"state {number}"),
                        etree.fromstring(one.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE).encode()),
                        etree.fromstring(one.XMLDesc().encode()) if one.isActive() else None,
                    )
                )
        return found

    def _machine(self, records: Records, vm: Row, domain: Domain) -> Iterator[str]:
        if domain.uuid != vm["uuid"]:
            yield f"the domain's UUID is {domain.uuid}"
        if vm["state"] != domain.state or vm["is_migrating"]:
            yield f"is {vm['state']}, is_migrating {vm['is_migrating']}; the domain is {domain.state}"
        place = records.place(vm)
        disks = [one for one in records.disk if one["vm_id"] == vm["id"]]
        faces = [one for one in records.iface if one["vm_id"] == vm["id"]]
        positions = Counter(one["position"] for one in disks)
        if max(positions.values(), default=1) > 1 or None in positions:
            yield f"the positions of its disks are {dict(positions)}"
        wanted = {"ua-seed": str(self.pools / place["pool"] / _seed(vm))}
        wanted |= {f"ua-disk-{one['id']}": str(records.volume(one, self.pools)) for one in disks}
        wanted |= {f"ua-iface-{one['id']}": f"{one['mac']} {place['network']}" for one in faces}
        leaving = {f"ua-disk-{one['id']}" for one in disks if one["leaving"]}
        leaving |= {f"ua-iface-{one['id']}" for one in faces if one["leaving"]}
        yield from _differences("defined", _devices(domain.defined), _without(wanted, leaving))
        if domain.live is not None:
            # what is leaving may be there or not
            yield from _differences(
                "live", _without(_devices(domain.live), leaving), _without(wanted, leaving)
            )
            if domain.live.find("devices/disk/mirror") is not None:
                yield "a copy of one of its disks still runs"
        labels = domain.defined.find("metadata/{urn:hypervisor:domain:1}labels")
        if labels is None or labels.get("datacenter") != place["dc_code"]:
            yield f"its labels say {None if labels is None else dict(labels.attrib)}"
        for what, path in (("memory", "currentMemory"), ("vm_max_memory", "memory")):
            if int(domain.defined.findtext(path) or 0) != vm[what] * 1024:
                yield f"{what} is {vm[what]} MiB, defined are {domain.defined.findtext(path)} KiB"
        vcpu = domain.defined.find("vcpu")
        if vcpu is None or int(vcpu.get("current") or vcpu.text or 0) != vm["cores"]:
            yield f"it has {vm['cores']} cores by record"

    def _disk(self, records: Records, disk: Row) -> Iterator[str]:
        file = records.volume(disk, self.pools)
        if disk["state"] != "created":
            yield f"is {disk['state']}"
        if disk["vm_id"] is not None and disk["vm_id"] not in {one["id"] for one in records.living}:
            yield f"is on vm#{disk['vm_id']}, which is not there"
        if not file.exists():
            yield f"has no volume {file}"
            return
        said = json.loads(_run("qemu-img", "info", "--force-share", "--output=json", str(file)))
        if disk["account_id"] is not None and said["virtual-size"] != disk["size"] * 2**20:
            yield f"is {disk['size']} MiB, its volume has {said['virtual-size'] / 2**20:g}"
        base = said.get("full-backing-filename")
        if base is not None and not Path(base).exists():
            yield f"its volume stands on {base}, which is not there"
        running = {one["id"] for one in records.living if one["state"] != "halted"}
        if disk["vm_id"] not in running:
            checked = subprocess.run(["qemu-img", "check", "-q", file], check=False, capture_output=True)
            # 3: clusters that are not used any more, as after every power cut
            if checked.returncode not in (0, 3):
                yield f"its volume is damaged: {checked.stdout.decode()}{checked.stderr.decode()}"

    def _reservations(self, records: Records) -> tuple[list[str], list[str]]:
        """Addresses by DHCP: those of the records that are not reserved, and those of nobody."""
        wanted, found = set(), set()
        for iface in records.iface:
            mine = [one for one in records.ip if one["iface_id"] == iface["id"]]
            four = next((one["ip"] for one in mine if one["version"] == 4), "")
            six = next((IPv6Address(one["ip"]).packed.hex() for one in mine if one["version"] == 6), "")
            mac = str(iface["mac"]).replace(":", "")
            wanted.add(f"{records.place(iface)['network']} {mac}_{four}_{six}")
        for place in records.datacenter:
            pool = self.connection.storagePoolLookupByName(f"{place['network']}-reservations")
            folder = etree.fromstring(pool.XMLDesc().encode()).findtext("target/path")
            for file in Path(str(folder)).iterdir():
                # names may follow, that of the guest and that of its owner
                if file.suffix != ".freed" and file.read_bytes().strip(b"\0\n"):
                    found.add(f"{place['network']} {'_'.join(file.name.split('_')[:3])}")
        return (
            [f"reservation {one} is missing, or empty" for one in sorted(wanted - found)],
            [f"reservation {one} belongs to nobody" for one in sorted(found - wanted)],
        )

    def _kernel(self, records: Records, domains: list[Domain]) -> Iterator[str]:
        """Interfaces and processes of the host."""
        links = json.loads(_run("ip", "-json", "link"))
        bridges = {}
        for place in records.datacenter:
            described = etree.fromstring(
                self.connection.networkLookupByName(place["network"]).XMLDesc().encode()
            )
            bridge = described.find("bridge")
            bridges[place["network"]] = "" if bridge is None else bridge.get("name", "")
        ports = {one["ifname"]: one.get("master") for one in links if _TAP.fullmatch(one["ifname"])}
        everybodys = set()
        for other in self.connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
            everybodys |= set(_taps(etree.fromstring(other.XMLDesc().encode())))
        for domain in domains:
            for tap, network in ({} if domain.live is None else _taps(domain.live)).items():
                if ports.get(tap) != bridges.get(network):
                    yield f"{tap} of {domain.name} is on {ports.get(tap)}, not on {bridges.get(network)}"
        strays = sorted(ports.keys() - everybodys)
        yield from (f"{one} is on {ports[one]} and no machine's" for one in strays)
        limits = {one["ifname"] for one in links if one["ifname"].startswith("hvi-")}
        # the kernel's names have at most 15 bytes
        wanted = {f"hvi-{blake2b(tap.encode(), digest_size=5).hexdigest()}" for tap in everybodys}
        strays = sorted(limits - wanted)
        yield from (f"{one} limits an interface that is gone" for one in strays)
        numbers = range(self.first_vm, self.first_vm + 1000)
        running = Counter(one for one in _guests() if one in {f"vm-{number}" for number in numbers})
        on = Counter(one.name for one in domains if one.live is not None)
        if running != on:
            yield f"processes of machines: {dict(running)}, domains that run: {dict(on)}"
        yield from self._open_files(domains)
        yield from (f"a copy still runs: {one}" for one in _commands("qemu-img"))

    def _open_files(self, domains: list[Domain]) -> Iterator[str]:
        """Volumes that a machine's process holds open although the machine does not have them."""
        for domain in domains:
            if domain.live is None:
                continue
            has = {one.get("file", "") for one in domain.live.iterfind("devices/disk//source")}
            try:
                pid = Path(f"/run/libvirt/qemu/{domain.name}.pid").read_text()
                links = list(Path(f"/proc/{pid}/fd").iterdir())
            except FileNotFoundError:
                yield f"{domain.name} runs, as libvirt says, and has no process"
                continue
            for link in links:
                with suppress(FileNotFoundError):
                    file = str(link.readlink())
                    if file.startswith(f"{self.pools}/") and file.removesuffix(" (deleted)") not in has:
                        yield f"{domain.name} holds {file} open"


def _iface(records: Records, iface: Row) -> Iterator[str]:
    if iface["state"] != ("free" if iface["vm_id"] is None else "used"):
        yield f"is {iface['state']} with vm {iface['vm_id']}"
    if iface["vm_id"] is not None and iface["vm_id"] not in {one["id"] for one in records.living}:
        yield f"is on vm#{iface['vm_id']}, which is not there"
    mine = [one for one in records.ip if one["iface_id"] == iface["id"]]
    if not mine:
        yield "has no address"
    for one in mine:
        if one["state"] != "created" or one["datacenter_id"] != iface["datacenter_id"]:
            yield f"its address {one['ip']} is {one['state']} in datacenter {one['datacenter_id']}"


def _seed(vm: Row) -> str:
    return f"seed-{vm['id']}-{vm['uuid'][:8]}.iso"


def _devices(root: etree._Element) -> dict[str, str]:
    """Files of the disks, MACs and networks of the interfaces, by our names for them."""
    found = {}
    for device in root.iterfind("devices/*"):
        alias, source, mac = device.find("alias"), device.find("source"), device.find("mac")
        if device.tag in ("disk", "interface") and alias is not None and source is not None:
            name = alias.get("name", "")
            found[name] = source.get("file", "") if device.tag == "disk" else ""
            if mac is not None:
                found[name] = f"{mac.get('address')} {source.get('network')}"
    return found


def _without(devices: dict[str, str], names: Iterable[str]) -> dict[str, str]:
    return {key: value for key, value in devices.items() if key not in names}


def _differences(where: str, found: dict[str, str], wanted: dict[str, str]) -> Iterator[str]:
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            yield f"{where}: {name} is {found.get(name)}, not {wanted.get(name)}"


def _commands(program: str) -> Iterator[list[str]]:
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if Path(words[0]).name.startswith(program):
                yield words


def _guests() -> Iterator[str]:
    """The names of the machines that processes run."""
    for words in _commands("qemu-system-"):
        named = next((one for one in words if one.startswith("guest=")), None)
        if named is not None:
            yield named.removeprefix("guest=").partition(",")[0]


def _taps(live: etree._Element) -> dict[str, str]:
    """The networks of a running machine's interfaces, by their names on the host."""
    found = {}
    for card in live.iterfind("devices/interface"):
        source, target = card.find("source"), card.find("target")
        if source is not None and target is not None:
            found[target.get("dev", "")] = source.get("network", "")
    return found


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
