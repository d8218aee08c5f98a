"""Somebody on the host who asks an address ten times a second, and when it answers (RFC 792, RFC 4443)."""

import contextlib
import itertools
import os
import select
import socket
import struct
import threading
import time
from ipaddress import IPv4Address, IPv6Address

from tests.service.waiting import until

STEP = 0.1  # seconds


class Asker:
    """Sends echo requests until it is ended; `answers` are times of `time.monotonic`."""

    def __init__(self, address: IPv4Address | IPv6Address) -> None:
        self.address = address
        self.answers: list[float] = []
        self._four = address.version == 4
        if self._four:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        else:
            self._socket = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        self._socket.setblocking(False)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def answered(self, times: int, seconds: float = 10) -> None:
        """Wait for so many more answers."""
        wanted = len(self.answers) + times
        until(lambda: len(self.answers) >= wanted, seconds, f"{self.address} answers {times} times")

    def end(self) -> None:
        """Ask no more."""
        self._ended.set()
        self._thread.join(10)
        self._socket.close()

    def _ask(self) -> None:
        begun = time.monotonic()
        for number in itertools.count():
            if self._ended.is_set():
                return
            # nobody there yet, or nobody any more
            with contextlib.suppress(OSError):
                self._socket.sendto(self._request(number), (str(self.address), 0))
            self._listen(begun + (number + 1) * STEP)

    def _listen(self, deadline: float) -> None:
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self._socket], [], [], left)[0]:
                return
            with contextlib.suppress(OSError):
                packet, source = self._socket.recvfrom(2048)
                body = packet[(packet[0] & 15) * 4 :] if self._four else packet
                reply = (0 if self._four else 129, 0, self._identifier)
                if source[0] == str(self.address) and struct.unpack("!BBxxH", body[:6]) == reply:
                    self.answers.append(time.monotonic())

    @property
    def _identifier(self) -> int:
        return (os.getpid() ^ id(self)) & 0xFFFF

    def _request(self, number: int) -> bytes:
        kind = 8 if self._four else 128
        words = (kind << 8, self._identifier, number & 0xFFFF)
        total = sum(words)
        # the kernel fills in the checksum of ICMPv6 alone
        checksum = ~(total + (total >> 16)) & 0xFFFF if self._four else 0
        return struct.pack("!4H", words[0], checksum, *words[1:])


def answers(address: IPv4Address | IPv6Address, seconds: float = 1.0) -> bool:
    """Whether the address answers within `seconds`."""
    asker = Asker(address)
    deadline = time.monotonic() + seconds
    while not asker.answers and time.monotonic() < deadline:
        time.sleep(STEP)
    asker.end()
    return bool(asker.answers)
