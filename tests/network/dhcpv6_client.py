"""A DHCPv6 client with a DUID to choose (RFC 8415): prints the addresses that it was given as JSON."""

import json
import os
import socket
import struct
import sys
from collections.abc import Iterator

SOLICIT, ADVERTISE, REQUEST, REPLY = 1, 2, 3, 7
CLIENT_ID, SERVER_ID, IA_NA, IA_ADDRESS, ELAPSED_TIME = 1, 2, 3, 5, 8


def option(code: int, value: bytes) -> bytes:
    return struct.pack("!HH", code, len(value)) + value


def options(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        code, length = struct.unpack_from("!HH", data)
        yield code, data[4 : 4 + length]
        data = data[4 + length :]


def ask(client: socket.socket, server: tuple[str, int, int, int], kind: int, body: bytes) -> bytes:
    """The options of the answer; empty when none comes."""
    transaction = os.urandom(3)
    for _ in range(3):
        client.sendto(bytes([kind]) + transaction + body + option(ELAPSED_TIME, b"\0\0"), server)
        try:
            while True:
                answer = client.recv(2048)
                if answer[0] in (ADVERTISE, REPLY) and answer[1:4] == transaction:
                    return answer[4:]
        except TimeoutError:
            continue
    return b""


def main(interface: str, duid: str, iaid: int) -> list[str]:
    identity = option(CLIENT_ID, bytes.fromhex(duid)) + option(IA_NA, struct.pack("!III", iaid, 0, 0))
    number = socket.if_nametoindex(interface)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        client.bind(("::", 546, 0, number))
        server = ("ff02::1:2", 547, 0, number)
        offer = dict(options(ask(client, server, SOLICIT, identity)))
        if SERVER_ID not in offer:
            return []
        reply = dict(options(ask(client, server, REQUEST, identity + option(SERVER_ID, offer[SERVER_ID]))))
    given = options(reply.get(IA_NA, bytes(12))[12:])
    return [socket.inet_ntop(socket.AF_INET6, value[:16]) for code, value in given if code == IA_ADDRESS]


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
