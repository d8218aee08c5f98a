"""A running domain's processors held for a moment, also when the service is killed meanwhile.

A mark in the live domain's metadata says that it was us who paused it: the next attempt lets it go on, and
what its user paused stays paused. The mark is there from before the pause until after it, so a pause by the
user while the mark of a killed service waits for the next attempt ends with that.
"""

import libvirt

from hypervisor.domain.power import is_marked

NAMESPACE = "urn:hypervisor:standstill:1"


def hold(domain: libvirt.virDomain) -> None:
    """Stop the domain's processors until `let_go`; does nothing when they stand still."""
    if domain.state()[0] in (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED):
        _mark(domain, "<standstill/>")
        domain.suspend()


def let_go(domain: libvirt.virDomain) -> None:
    """End what `hold` began, now or in a service that was killed; does nothing otherwise."""
    if is_marked(domain, NAMESPACE):
        if domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
            domain.resume()
        try:
            _mark(domain, None)
        except libvirt.libvirtError:
            # a machine that stopped has no mark any more
            if domain.isActive():
                raise


def _mark(domain: libvirt.virDomain, content: str | None) -> None:
    domain.setMetadata(
        libvirt.VIR_DOMAIN_METADATA_ELEMENT, content, "hold", NAMESPACE, libvirt.VIR_DOMAIN_AFFECT_LIVE
    )
