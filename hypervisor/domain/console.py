"""The serial console of a running domain, held open as a libvirt stream.

What the guest writes is read here only so that it never has to wait: everything it writes is in the console's
log too, in the same order, and that is what is shown (see `hypervisor.domain.console_log`).
"""

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import libvirt

from hypervisor.connection import open_apart
from hypervisor.domain.power import lookup
from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import explained

_READ = 65536
# libvirtd holds a few packets for the guest before it reads on: small ones, so that it hears our keep-alive
_PACKET = 1024
_EVENTS = libvirt.VIR_STREAM_EVENT_READABLE | libvirt.VIR_STREAM_EVENT_ERROR | libvirt.VIR_STREAM_EVENT_HANGUP


class ConsoleEnded(HypervisorError):
    """The console takes nothing any more."""


class Console:
    """The open console of the domain `uuid` on the libvirt at `uri`; whoever had it open loses it.

    It has a connection of its own: libvirtd reads no further from a connection on which a few packets wait
    for a guest that does not read, and then nothing else on it would be answered.

    `ended` is called once, from libvirt's event thread, when the guest has halted, the connection broke or
    somebody else took the console; not after `close`. Opening, writing and closing block, so no event loop
    may do them. Raises `NoDomain`, `LibvirtError` (also for a domain that is off) or `Unavailable`.
    """

    def __init__(self, uri: str, uuid: str, ended: Callable[[], None]) -> None:
        self._ended = ended
        self._over = threading.Event()
        self._sending = threading.Lock()
        self._connection = open_apart(uri)
        try:
            domain = lookup(self._connection, uuid)
            with explained(f"console of domain {uuid}"):
                self._connection.registerCloseCallback(self._broke, None)
                self._stream = self._connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
                domain.openConsole(None, self._stream, libvirt.VIR_DOMAIN_CONSOLE_FORCE)
                self._stream.eventAddCallback(_EVENTS, self._readable, None)
        except BaseException:
            self._release()
            raise

    def write(self, data: bytes) -> None:
        """Type `data`; blocks while libvirtd takes nothing. Raises `ConsoleEnded`."""
        with self._sending:
            while data:
                if self._over.is_set():
                    raise ConsoleEnded("the console has ended")
                try:
                    sent = self._stream.send(data[:_PACKET])
                except libvirt.libvirtError as error:
                    raise ConsoleEnded(f"the console took no input: {error.get_error_message()}") from error
                if sent < 0:
                    # the remote driver sends or waits; it never answers that it would have to wait
                    raise ConsoleEnded("the console takes no input")
                data = data[sent:]

    def close(self) -> None:
        """Let the console go; may be repeated."""
        self._over.set()
        with contextlib.suppress(libvirt.libvirtError):
            self._stream.eventRemoveCallback()
        with contextlib.suppress(libvirt.libvirtError):
            self._stream.abort()
        self._release()

    def _readable(self, stream: libvirt.virStream, _events: int, _opaque: Any) -> None:
        try:
            read = stream.recv(_READ)
        except libvirt.libvirtError:
            read = b""
        if not read:
            with contextlib.suppress(libvirt.libvirtError):
                stream.eventRemoveCallback()
            self._end()

    def _broke(self, *_: Any) -> None:
        self._end()

    def _end(self) -> None:
        if not self._over.is_set():
            self._over.set()
            self._ended()

    def _release(self) -> None:
        with contextlib.suppress(libvirt.libvirtError):
            self._connection.unregisterCloseCallback()
        with contextlib.suppress(libvirt.libvirtError):
            self._connection.close()
