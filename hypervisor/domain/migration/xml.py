"""The XML of a domain that moves: as it runs, with what is different on the target."""

from lxml import etree

from hypervisor.domain.spec import DomainSpec
from hypervisor.domain.xml import NAMESPACE, labels_element

_PARSER = etree.XMLParser(resolve_entities=False, no_network=True)


def on_target(running: str, spec: DomainSpec) -> str:
    """`running`, a domain's migratable XML, with the paths, networks and labels of `spec`.

    It is not rendered from `spec`: where the devices are on the guest's buses must stay as it is.
    """
    root = etree.fromstring(running.encode(), _PARSER)
    paths = {disk.target: str(disk.path) for disk in spec.disks}
    for disk in root.iterfind("devices/disk"):
        _set(disk, "source", {"file": paths[_get(disk, "target", "dev")]})
        for chain in disk.findall("backingStore"):
            disk.remove(chain)  # a copy has none
    networks = {interface.mac: interface.network for interface in spec.interfaces}
    for interface in root.iterfind("devices/interface"):
        _set(interface, "source", {"network": networks[_get(interface, "mac", "address")]})
        for tap in interface.findall("target"):
            interface.remove(tap)
    for log in root.xpath("devices/*[self::serial or self::console]/log"):
        log.set("file", str(spec.console_log))
    for metadata in root.iterfind("metadata"):
        for labels in metadata.findall(f"{{{NAMESPACE}}}labels"):
            metadata.replace(labels, labels_element(spec.labels))
    return etree.tostring(root, encoding="unicode")


def _get(element: etree._Element, path: str, name: str) -> str:
    found = element.find(path)
    return "" if found is None else found.get(name, "")


def _set(element: etree._Element, path: str, attributes: dict[str, str]) -> None:
    found = element.find(path)
    if found is not None:
        found.clear()
        found.attrib.update(attributes)
