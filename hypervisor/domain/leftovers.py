"""What a libvirtd that was killed while it plugged a disk in left in QEMU.

libvirt no longer knows of it; QEMU holds the file open, and the next disk cannot have its name.
"""

import json
import re
from typing import Any

import libvirt
import libvirt_qemu
from lxml import etree

from hypervisor.libvirt_errors import explained

# the blockdev nodes that libvirt makes: a file, and the format upon it
_NODE = re.compile(r"libvirt-(\d+)-(format|storage)")


def drop(domain: libvirt.virDomain) -> list[str]:
    """Remove the nodes that libvirt does not know and no device of the guest uses; their names.

    Raises `LibvirtError`.
    """
    with explained(f"leftovers in domain {domain.name()}"):
        root = etree.fromstring(domain.XMLDesc().encode())
        known = {element.get("index") for element in root.iterfind("devices//source[@index]")}
        said = _ask(domain, "query-named-block-nodes", flat=True)
        names = [one.get("node-name", "") for one in said.get("return", [])]
        unknown = [one for one in names if (match := _NODE.fullmatch(one)) and match[1] not in known]
        # the format first: it holds its file; QEMU refuses what is in use
        return [
            one for one in sorted(unknown) if "return" in _ask(domain, "blockdev-del", **{"node-name": one})
        ]


def _ask(domain: libvirt.virDomain, command: str, **arguments: Any) -> Any:
    question = json.dumps({"execute": command, "arguments": arguments})
    return json.loads(libvirt_qemu.qemuMonitorCommand(domain, question, 0))
