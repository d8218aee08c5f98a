"""Renew a DHCPv4 lease as a guest does that has no route to its server (RFC 2131, 4.4.5): by broadcast, from
its own address. Prints the address that the server acknowledges; fails without an answer."""

import os
import socket
import sys


def main(interface: str, mac: str, address: str) -> str:
    identity = os.urandom(4)
    hardware = bytes.fromhex(mac.replace(":", ""))
    request = b"\x01\x01\x06\x00" + identity + bytes(4) + socket.inet_aton(address) + bytes(12)
    request += hardware.ljust(16, b"\0") + bytes(192) + b"\x63\x82\x53\x63" + b"\x35\x01\x03\xff"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(2)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        client.bind((address, 68))
        client.sendto(request, ("255.255.255.255", 67))
        while True:
            answer = client.recv(2048)
            if answer[4:8] == identity and b"\x35\x01\x05" in answer[240:]:
                return socket.inet_ntoa(answer[16:20])


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
