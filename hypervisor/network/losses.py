"""Our tables that somebody removes from the kernel's packet filter, as a restart of nftables does with all.

The kernel tells of each change whoever listens (nfnetlink, NFNLGRP_NFTABLES); ``nft monitor`` shows the same.
"""

import errno
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator

from pyroute2.netlink import NETLINK_NETFILTER
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, NFNLGRP_NFTABLES
from pyroute2.netlink.nfnetlink.nftsocket import NFT_MSG_DELTABLE, nft_table_msg

from hypervisor.network.nft import TABLE

_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port (netlink(7))
_REMOVED = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELTABLE
_MOST = 65536  # bytes of one reading
_PATIENCE = 1.0  # seconds, at the end


class Losses:
    """Calls `lost`, in a thread of its own, whenever a table of ours was removed."""

    def __init__(self, lost: Callable[[], None]) -> None:
        self._lost = lost
        # readable when the other one is closed, which ends the wait for the kernel
        self._ending, self._teller = socket.socketpair()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to listen: what is removed after this returns is told.

        Raises `OSError` where that is forbidden, and where the kernel has no nftables.
        """
        kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_NETFILTER)
        try:
            kernel.bind((0, 0))
            kernel.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, NFNLGRP_NFTABLES)
        except OSError:
            kernel.close()
            raise
        self._thread = threading.Thread(target=self._run, args=[kernel], name="nftables", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; may be called before `start`. A `lost` that takes long is not waited for."""
        self._teller.close()
        if self._thread is None:
            self._ending.close()
        else:
            self._thread.join(_PATIENCE)

    def _run(self, kernel: socket.socket) -> None:
        waiting = select.poll()
        waiting.register(kernel, select.POLLIN)
        waiting.register(self._ending, select.POLLIN)
        with kernel, self._ending:
            while self._ending.fileno() not in dict(waiting.poll()):
                if TABLE in set(_told(kernel)):
                    self._lost()


def _told(kernel: socket.socket) -> Iterator[str]:
    """The tables that were removed, as far as the kernel has told by now."""
    while True:
        try:
            yield from _removed(kernel.recv(_MOST))
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            # it could not tell all: it may have been ours
            yield TABLE


def _removed(data: bytes) -> Iterator[str]:
    place = 0
    while place + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, place)
        if kind == _REMOVED:
            message = nft_table_msg(data[place : place + length])
            message.decode()
            yield message.get_attr("NFTA_TABLE_NAME")
        place += max(_HEADER.size, length + 3 & ~3)
