"""A guest's file systems at rest for a moment, through its agent."""

import contextlib
import logging
from collections.abc import Iterator

import libvirt

from hypervisor.domain.live import tree_of

log = logging.getLogger(__name__)

# how long the agent may take to answer, in seconds
_PATIENCE = 5


@contextlib.contextmanager
def frozen(domain: libvirt.virDomain) -> Iterator[None]:
    """Freeze the guest's file systems during the block, when its agent answers within 5 seconds."""
    channels = tree_of(domain).iterfind("devices/channel/target[@name='org.qemu.guest_agent.0']")
    if not any(channel.get("state") == "connected" for channel in channels):
        yield
        return
    try:
        domain.agentSetResponseTimeout(_PATIENCE, 0)
        domain.fsFreeze()
    except libvirt.libvirtError as error:
        log.info("domain %s is copied without a freeze: %s", domain.name(), error)
    try:
        yield
    finally:
        # also after a freeze that came too late to be waited for
        with contextlib.suppress(libvirt.libvirtError):
            domain.fsThaw()
        with contextlib.suppress(libvirt.libvirtError):
            domain.agentSetResponseTimeout(libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, 0)
