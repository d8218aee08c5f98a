"""Whether calls can be served now, found out without waiting for libvirt."""

import logging

from sqlalchemy import func, select

from api.operations.engine import Engine
from api.operations.hosts import Hosts
from api.store.database import Store
from api.store.models import Datacenter

log = logging.getLogger(__name__)


class Readiness:
    """The parts that have to work."""

    def __init__(self, store: Store, hosts: Hosts, engine: Engine) -> None:
        self._store = store
        self._hosts = hosts
        self._engine = engine

    def __call__(self) -> dict[str, str]:
        """What does not work, by part: `store`, `engine`, `libvirt`; empty when the service is ready.

        Datacenters on other hosts are left out: the others are served without them.
        """
        wrong = {}
        if not self._reads():
            wrong["store"] = "the records cannot be read: the service's log says why"
        if not self._engine.runs:
            wrong["engine"] = "operations are not taken up: restart the service"
        own = self._hosts.own
        if own in self._hosts.places and (silence := self._hosts.at(own).silence):
            wrong["libvirt"] = f"libvirt has not been connected for {silence:.0f} s: see that libvirtd runs"
        return wrong

    def _reads(self) -> bool:
        try:
            with self._store.reading() as session:
                session.scalar(select(func.count()).select_from(Datacenter))
        except Exception:
            log.exception("the records cannot be read")
            return False
        return True
