"""What room there is in the storage pools, for those who must not wait for libvirt."""

import logging
import threading
from collections.abc import Callable, Mapping

from sqlalchemy import select

from api.operations.hosts import Hosts
from api.store.database import Store
from api.store.models import Datacenter
from hypervisor.errors import HypervisorError
from hypervisor.storage import pool
from hypervisor.storage.pool import Room

log = logging.getLogger(__name__)

_EVERY = 60.0  # seconds between two looks, when nobody asks
_STOP_PATIENCE = 5.0  # seconds

Rooms = Callable[[Datacenter], Room]


class Pools:
    """The room in each datacenter's pool, as it was at the last look; whoever asks causes the next one."""

    def __init__(self, store: Store, hosts: Hosts) -> None:
        self._store = store
        self._hosts = hosts
        self._rooms: dict[int, Room] = {}
        self._silent: set[int] = set()
        self._asked = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="pools", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._ending = True
        self._asked.set()
        # one that is stuck in libvirt is left there
        self._thread.join(_STOP_PATIENCE)

    def __call__(self, datacenter: Datacenter) -> Room:
        """The room in the datacenter's pool, at most a minute ago; none in one that was not seen then."""
        self._asked.set()
        return self._rooms.get(datacenter.id, Room(active=False, free=0))

    @property
    def seen(self) -> Mapping[int, Room]:
        """What the last look found, by datacenter; none is caused, and what did not answer is missing."""
        return dict(self._rooms)

    def _run(self) -> None:
        while not self._ending:
            try:
                self._look()
            except Exception:
                log.exception("the storage pools were not looked at; they are in a minute")
            self._asked.wait(_EVERY)
            self._asked.clear()

    def _look(self) -> None:
        with self._store.reading() as session:
            datacenters = session.scalars(select(Datacenter)).all()
        for one in datacenters:
            try:
                self._rooms[one.id] = pool.room(self._hosts.handle(one.id, wait=0), one.pool)
                self._silent.discard(one.id)
            except HypervisorError as error:
                if one.id not in self._silent:
                    log.warning("storage pool of %s: %s", one.dc_code, error)
                self._silent.add(one.id)
                self._rooms.pop(one.id, None)
