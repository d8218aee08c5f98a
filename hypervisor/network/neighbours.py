"""How long this host looks for an IPv6 neighbour that does not answer (RFC 4861, section 7.2.2).

The kernel asks three times, a second apart, and then tells everybody who is connecting that the address is
unreachable. A guest that boots needs longer than that, and programs that wait for a new machine, gandi.cli
among them, take "unreachable" for their last word. Asked for longer, the guest answers when it is up, and
those who cannot wait have their own timeouts.
"""

import logging
from pathlib import Path

log = logging.getLogger(__name__)

# as long as gandi.cli waits for a new machine
_SECONDS = 300
_SETTINGS = Path("/proc/sys/net/ipv6/neigh")


def be_patient(bridge: str) -> None:
    """Let the host look for five minutes for guests on `bridge`; says so in the log where it may not."""
    try:
        (_SETTINGS / bridge / "mcast_solicit").write_text(f"{_SECONDS}\n")
    except OSError as error:
        log.warning("an IPv6 address on %s may look unreachable while its guest boots: %s", bridge, error)
