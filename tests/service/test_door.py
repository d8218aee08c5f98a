"""The real service as an installation starts it: by HTTPS, watched, every change recorded."""

import contextlib
import json
import socket
import sqlite3
import ssl
import stat
import sys
import xmlrpc.client
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from api.store.revision import HEAD
from api.wire.tls import read
from tests.conftest import NewService
from tests.service.process import Service
from tests.service.waiting import until

pytestmark = pytest.mark.lab

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


def proxy(service: Service) -> xmlrpc.client.ServerProxy:
    """A client that trusts the certificate that the service made."""
    context = ssl.create_default_context(cafile=str(service.state / "tls-cert.pem"))
    url = service.url.replace("http://", "https://")
    return xmlrpc.client.ServerProxy(url, allow_none=True, context=context)


def ended(service: Service) -> int:
    """The status with which a service ends that cannot start."""
    process = service.begin()._process
    assert process is not None
    until(lambda: process.poll() is not None, 60, "it ends")
    return process.returncode


def test_https_readiness_watchdog_and_the_audit_log(new_service: NewService, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        service: Service = new_service(
            HYPERVISOR_TLS__SELF_SIGNED="true",
            NOTIFY_SOCKET=str(tmp_path / "notify"),
            WATCHDOG_USEC="3000000",
        )
        service.start()
        assert [manager.recv(100) for _ in range(2)] == [b"READY=1", b"WATCHDOG=1"]
        key = (service.state / "apikey").read_text().strip()
        with proxy(service) as api:
            assert api.hosting.account.info(key)
            made: Any = api.hosting.ssh.create(key, {"name": "laptop", "value": KEY})
            with pytest.raises(xmlrpc.client.Fault):
                api.hosting.vm.list("x" * 24)
        assert service.terminate() == 0
        while manager.recv(100) != b"STOPPING=1":
            pass
    assert read(service.state / "tls-cert.pem").fingerprint in service.log
    assert f"https://127.0.0.1:{service.port}/xmlrpc/" in service.log
    file = service.state / "audit.log"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(one["method"], one["account"], one["ids"], one["result"]) for one in lines] == [
        ("hosting.ssh.create", "LOCAL-GANDI", {"key": [made["id"]]}, "ok"),
        ("hosting.vm.list", None, {}, "fault"),
    ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    # the service manager keeps what is printed
    assert key not in service.log
    assert key not in file.read_text()


ACTIVATED = """
import fcntl, os, sys
copies = [fcntl.fcntl(int(one), fcntl.F_DUPFD, 100) for one in sys.argv[1:3]]
for place, copy in enumerate(copies, 3):
    os.dup2(copy, place)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="console:api")
os.execv(sys.executable, [sys.executable, "-m", "api.cli", "serve", "--libvirt", "system"])
"""


def test_the_sockets_of_a_service_manager_are_told_apart(new_service: NewService) -> None:
    service: Service = new_service(HYPERVISOR_LISTEN="127.0.0.1:1", HYPERVISOR_CONSOLE_LISTEN="127.0.0.1:2")
    service.start(command=[sys.executable, "-c", ACTIVATED, *map(str, reversed(service.sockets()))])
    assert f"http://127.0.0.1:{service.port}/xmlrpc/" in service.log
    assert service.client().call("hosting.account.info")
    with socket.create_connection(("127.0.0.1", service.console_port), timeout=30) as console:
        assert console.recv(100).startswith(b"SSH-2.0-console")
    # they outlive the service: a call made meanwhile waits for the next start
    assert service.terminate() == 0
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(service.client().call, "hosting.account.info")
        service.start()
        assert waiting.result()


def test_a_newer_schema_keeps_it_from_starting(new_service: NewService) -> None:
    service: Service = new_service()
    with contextlib.closing(sqlite3.connect(service.state / "store.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()
    assert ended(service) == 3
    assert "'9999'" in service.log
    assert f"'{HEAD}'" in service.log
    assert "Traceback" not in service.log


def test_an_audit_log_that_cannot_be_opened_keeps_it_from_starting(new_service: NewService) -> None:
    service: Service = new_service(HYPERVISOR_AUDIT_LOG="/proc/audit.log")
    assert ended(service) == 3
    assert "the audit log /proc/audit.log cannot be opened" in service.log
