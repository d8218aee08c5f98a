"""The libvirts of the datacenters: a lasting connection to each, and one bus for what they tell."""

import threading
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlsplit

from api.store.models import Datacenter
from hypervisor.connection import Connection, Handle
from hypervisor.errors import HypervisorError
from hypervisor.events import Events
from hypervisor.libvirt_errors import Unavailable
from hypervisor.network import is_local_uri

Prepare = Callable[[Handle, int], None]

# seconds that whoever wants a libvirt waits for one that has been away for long: an attempt falls into them
_LATE = 6.0


def uri_of(datacenter: Datacenter, own: str) -> str:
    """The datacenter's libvirt; `own` is the service's."""
    return datacenter.libvirt_uri or own


def address_of(datacenter: Datacenter, own: str) -> str | None:
    """Where other hosts reach the datacenter's; None when nothing tells."""
    return datacenter.migration_address or urlsplit(uri_of(datacenter, own)).hostname


class Hosts:
    """The connections of `datacenters`, to the libvirt that each of them names or to that at `own`.

    A connection is opened when it is first wanted, and kept. `prepare` is called once for each datacenter,
    with its libvirt and its id, before that libvirt is handed out for it.
    """

    def __init__(self, own: str, datacenters: Iterable[Datacenter], prepare: Prepare | None = None) -> None:
        self.own = own
        self.events = Events()
        self._codes: dict[int, str] = {}
        self._uris: dict[int, str] = {}
        for datacenter in datacenters:
            self._codes[datacenter.id] = datacenter.dc_code
            self._uris[datacenter.id] = uri_of(datacenter, own)
        self._connections: dict[str, Connection] = {}
        self._opening = threading.Lock()
        self._prepare = prepare
        self._preparing = {one: threading.Lock() for one in self._codes}
        self._prepared: set[int] = set()

    def start(self) -> None:
        """Begin to tell what happens."""
        self.events.start()

    def stop(self) -> None:
        """Let all connections go, and tell nothing more."""
        with self._opening:
            for connection in self._connections.values():
                connection.stop()
        self.events.stop()

    @property
    def places(self) -> Mapping[str, list[int]]:
        """The URI of each libvirt, and the ids of the datacenters that it serves."""
        found: dict[str, list[int]] = {}
        for number, uri in self._uris.items():
            found.setdefault(uri, []).append(number)
        return found

    def code(self, datacenter_id: int) -> str:
        """The datacenter's name in messages."""
        return self._codes.get(datacenter_id, f"#{datacenter_id}")

    def uri(self, datacenter_id: int) -> str:
        """The datacenter's libvirt; raises `HypervisorError` for one that is newer than this process."""
        if datacenter_id not in self._uris:
            raise HypervisorError(
                f"datacenter#{datacenter_id} was not there when the service started: restart the service"
            )
        return self._uris[datacenter_id]

    def are_apart(self, one: int, other: int) -> bool:
        """Whether two datacenters are on different libvirts."""
        return self.uri(one) != self.uri(other)

    def at(self, uri: str) -> Connection:
        """The connection to the libvirt at `uri`, which need not be open yet."""
        with self._opening:
            if uri not in self._connections:
                self._connections[uri] = Connection(uri, self.events)
                self._connections[uri].start()
            return self._connections[uri]

    def handle(self, datacenter_id: int, wait: float = 30) -> Handle:
        """The open connection to the datacenter's libvirt, with the datacenter prepared.

        Waits up to `wait` seconds for one that has just broken, and less for one that has been away for long.
        Raises `Unavailable`, and `HypervisorError` when the datacenter cannot be prepared.
        """
        handle = self._handle(datacenter_id, wait)
        if self._prepare is not None and datacenter_id not in self._prepared:
            with self._preparing[datacenter_id]:
                if datacenter_id not in self._prepared:
                    self._prepare(handle, datacenter_id)
                    self._prepared.add(datacenter_id)
        return handle

    def prepare_again(self, datacenter_id: int) -> None:
        """Prepare the datacenter as if it had not been, because something that was made is gone.

        Raises as `handle` does.
        """
        handle = self._handle(datacenter_id, _LATE)
        if self._prepare is not None:
            with self._preparing[datacenter_id]:
                self._prepare(handle, datacenter_id)

    def _handle(self, datacenter_id: int, wait: float) -> Handle:
        connection = self.at(self.uri(datacenter_id))
        try:
            return connection.handle(min(wait, max(_LATE, wait - connection.silence)))
        except Unavailable as error:
            raise Unavailable(f"datacenter {self.code(datacenter_id)}: {error}") from None

    def is_near(self, datacenter_id: int) -> bool:
        """Whether the datacenter's guests are on the network interfaces of this machine, as far as the URI
        tells; the socket of the service's own libvirt is taken for one on this machine."""
        uri = self.uri(datacenter_id)
        return is_local_uri(uri) or (uri == self.own and not urlsplit(uri).hostname)
