"""The service manager that started this process: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3)."""

import logging
import os
import socket
from collections.abc import Sequence
from typing import Self

from api.wire.listen import Inherited

_FIRST = 3
_OWN = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")

log = logging.getLogger(__name__)


class Manager:
    """What was agreed with it: where it listens for words, how often it wants some, the sockets it opened.

    `watchdog` is the time in seconds after which it ends a silent service, None when it does not; `sockets`
    are by name (``FileDescriptorName=`` in their units).
    """

    def __init__(
        self,
        address: str | None = None,
        watchdog: float | None = None,
        sockets: Sequence[tuple[str, Inherited]] = (),
    ) -> None:
        self.watchdog = watchdog
        self._address = address
        self._sockets = sockets

    @classmethod
    def found(cls) -> Self:
        """From the environment, and out of it: neither gunicorn nor any program started later is meant."""
        told = {name: os.environ.pop(name, "") for name in _OWN}
        watchdog = None
        if told["WATCHDOG_USEC"] and told["WATCHDOG_PID"] in ("", str(os.getpid())):
            watchdog = int(told["WATCHDOG_USEC"]) / 1_000_000
        count = int(told["LISTEN_FDS"] or 0) if told["LISTEN_PID"] == str(os.getpid()) else 0
        names = told["LISTEN_FDNAMES"].split(":") if told["LISTEN_FDNAMES"] else [""] * count
        sockets = [(name, Inherited(_FIRST + place)) for place, name in enumerate(names[:count])]
        return cls(told["NOTIFY_SOCKET"] or None, watchdog, sockets)

    @property
    def listens(self) -> bool:
        """Whether it wants to be told."""
        return self._address is not None

    def sockets(self, name: str) -> list[Inherited]:
        """The sockets with this name."""
        return [one for known, one in self._sockets if known == name]

    def others(self, *names: str) -> list[Inherited]:
        """The sockets with none of these names."""
        return [one for known, one in self._sockets if known not in names]

    def tell(self, *facts: str) -> None:
        """Tell it, such as ``READY=1``; one that does not hear is only worth a line in the log."""
        if self._address is None:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
                # it may be busy, but not for ever
                told.settimeout(10)
                told.sendto("\n".join(facts).encode(), address)
        except OSError as error:
            log.warning("the service manager does not hear %s: %s", facts, error)
