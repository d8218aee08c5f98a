"""Addresses, and the sockets made of them."""

import os
import socket
import stat
from pathlib import Path

import pytest

from api.wire.listen import Inherited, Listen, Tcp, Unix, listener, open_listener, parse_listen, remove


@pytest.mark.parametrize(
    ("address", "meaning"),
    [
        ("127.0.0.1:8080", Tcp("127.0.0.1", 8080)),
        ("[::1]:8080", Tcp("::1", 8080)),
        ("0.0.0.0:80", Tcp("0.0.0.0", 80)),
        ("localhost:0", Tcp("localhost", 0)),
        (":8080", Tcp("127.0.0.1", 8080)),
        ("8080", Tcp("127.0.0.1", 8080)),
        ("unix:/run/x.sock", Unix("/run/x.sock")),
        ("fd://7", Inherited(7)),
    ],
)
def test_addresses(address: str, meaning: Listen) -> None:
    assert parse_listen(address) == meaning


@pytest.mark.parametrize(
    "address",
    [
        "",
        "host",
        "host:",
        "::1:8080",
        "1.2.3.4:65536",
        "1.2.3.4:+1",
        "unix:x",
        "fd://",
        "fd://-1",
        "1:\u0662",
    ],
)
def test_wrong_addresses(address: str) -> None:
    with pytest.raises(ValueError, match="'"):
        parse_listen(address)


def test_ports_of_both_families_answer() -> None:
    for address in ("127.0.0.1:0", "[::1]:0"):
        with open_listener(address) as opened, socket.create_connection(opened.getsockname()[:2], timeout=5):
            assert not opened.get_inheritable()


def test_a_taken_port_is_named() -> None:
    with open_listener("127.0.0.1:0") as opened:
        port = opened.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: .*in use"):
            open_listener(f"127.0.0.1:{port}")


def test_unix_sockets_are_private_and_replaced_when_stale(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    address = f"unix:{path}"
    open_listener(address).close()
    with open_listener(address) as opened:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(OSError, match="in use"):
            open_listener(address)
        assert opened.getsockname() == str(path)
    remove(parse_listen(address))
    assert not path.exists()
    path.write_text("not a socket")
    with pytest.raises(OSError, match="in use"):
        open_listener(address)
    assert path.read_text() == "not a socket"


def test_only_listening_sockets_are_inherited() -> None:
    read, write = os.pipe()
    with socket.socket() as idle:
        for descriptor in (read, idle.fileno(), 1000):
            with pytest.raises(OSError, match="cannot listen on fd://"):
                listener(Inherited(descriptor))
    os.close(read)
    os.close(write)
