"""What of the doctor's looks this host cannot be brought to show."""

import contextlib
import io
import os
import sqlite3
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from api.cli.doctor import house, report
from api.settings import Settings
from hypervisor.doctor import Finding, Level, host, pools
from hypervisor.doctor.finding import virsh


def _host(libvirt: int, qemu: int) -> Any:
    return SimpleNamespace(getLibVersion=lambda: libvirt, getVersion=lambda: qemu)


def test_versions_that_are_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYPERVISOR_LAB", raising=False)
    found = {one.subject: one for one in host.versions(_host(8_000_000, 7_001_000))}
    assert found["libvirt"].level is Level.PROBLEM
    assert found["libvirt"].mend == "apt-get install --only-upgrade libvirt-daemon-system"
    assert found["QEMU"].level is Level.PROBLEM
    assert "issues/1193" in found["QEMU"].text
    found = {one.subject: one for one in host.versions(_host(9_000_000, 10_000_003))}
    assert {one.level for one in found.values()} == {Level.OK}
    assert "worked around" in found["libvirt"].text
    assert found["QEMU"].text == "10.0.3 answers"


def test_a_clock_that_was_set_back() -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    assert host.clock(now + timedelta(hours=1)).level is Level.PROBLEM
    assert host.clock(now - timedelta(hours=1)).level is not Level.PROBLEM
    assert host.clock(None).level is not Level.PROBLEM


def test_a_folder_that_qemus_user_cannot_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This lab's QEMU runs as root; on a host it has a user of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can look as another user")
    monkeypatch.delenv("HYPERVISOR_LAB", raising=False)
    label = "<secmodel><model>dac</model><baselabel type='kvm'>+64055:+64056</baselabel></secmodel>"
    connection: Any = SimpleNamespace(
        getCapabilities=lambda: f"<capabilities><host>{label}</host></capabilities>"
    )
    pool = tmp_path / "a" / "b" / "pool"
    pool.mkdir(parents=True)
    for one in (pool, *pool.parents[:-1]):
        if one.is_relative_to(tmp_path.parents[1]):
            one.chmod(0o711)
    assert pools._passage("p", connection, pool) == (None, "; QEMU's user 64055 gets in")
    (tmp_path / "a").chmod(0o700)
    obstacle, _ = pools._passage("p", connection, pool)
    assert obstacle is not None
    assert obstacle.level is Level.PROBLEM
    assert obstacle.mend == f"chmod o+x {tmp_path / 'a'}"


def test_commands_are_spelled_for_where_libvirt_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYPERVISOR_LAB", raising=False)
    assert virsh("qemu:///system", "pool-start", "a b") == "virsh -c qemu:///system pool-start 'a b'"
    monkeypatch.setenv("HYPERVISOR_LAB", "serve")
    assert virsh("x", "y") == "hypervisor lab enter --name serve -- virsh -c x y"


def test_the_report_is_aligned_and_keeps_commands_whole() -> None:
    written = io.StringIO()
    report.show(
        Console(file=written, width=60),
        [
            Finding(Level.OK, "clock", "fine"),
            Finding(Level.WARNING, "pool x", "it is " + "very " * 20 + "full", "du " + "x" * 80),
            Finding(Level.PROBLEM, "DHCP", "gone", "mend it"),
        ],
    )
    lines = written.getvalue().splitlines()
    assert lines[0].rstrip() == "✓  clock   Fine"
    assert "   → du " + "x" * 80 in lines
    assert lines[-3].rstrip() == "   → mend it"
    assert lines[-1] == "1 ok, 1 warning, 1 problem"
    # what a sentence wraps to stays in its column
    assert lines[2].startswith(" " * 11)


def test_what_sqlite_makes_beside_an_open_database_is_closed_with_it(tmp_path: Path) -> None:
    """Also what it makes between the look and the command."""
    database = tmp_path / "a store's.db"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        database.chmod(0o644)
        found = next(one for one in house.folder(Settings(state=tmp_path)) if one.subject == "secrets")
        connection.execute("CREATE TABLE t (id)")
        beside = database.with_name(f"{database.name}-wal")
        assert beside.stat().st_mode & 0o077
        subprocess.run(["/bin/sh", "-c", found.mend], check=True)
        assert not (beside.stat().st_mode | database.stat().st_mode) & 0o077
