"""The host's rules that keep guests within bounds, put back when somebody takes them away."""

import logging
import threading

from api.operations.hosts import Hosts
from hypervisor.domain import survey
from hypervisor.errors import HypervisorError
from hypervisor.network import Losses, is_local_uri

log = logging.getLogger(__name__)

_PAUSE = 5.0  # seconds between attempts


class Rules:
    """Has nftables of this host as the datacenters of `hosts` need it, also after a restart of nftables."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._losses = Losses(self._put_back)
        self._ending = threading.Event()

    def start(self) -> None:
        """Watch over what the preparation of the datacenters has made, and complete it.

        Raises `HypervisorError`.
        """
        try:
            self._losses.start()
        except OSError as error:
            log.warning("a restart of nftables will go unnoticed: %s", error)
        self._share()

    def stop(self) -> None:
        """End; may be called before `start`."""
        self._ending.set()
        self._losses.stop()

    def _here(self) -> list[str]:
        return [uri for uri in self._hosts.places if is_local_uri(uri)]

    def _share(self) -> None:
        for uri in self._here():
            survey.share_addresses(self._hosts.at(uri).handle(_PAUSE))

    def _put_back(self) -> None:
        log.warning("the rules that keep guests within bounds were removed from nftables: they are put back")
        while not self._ending.is_set():
            try:
                for uri in self._here():
                    for datacenter_id in self._hosts.places[uri]:
                        self._hosts.prepare_again(datacenter_id)
                self._share()
            except HypervisorError as error:
                log.warning("the rules of nftables are not back yet: %s", error)
                self._ending.wait(_PAUSE)
            else:
                log.info("the rules of nftables are back")
                return
