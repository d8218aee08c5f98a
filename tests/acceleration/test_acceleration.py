"""Whether KVM is found usable: with the host's KVM as it is, and with programs that stand in for QEMU."""

import logging
import os
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hypervisor import acceleration

Qemu = Callable[[str], Path]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image with nothing in it."""
    file = tmp_path / "an image, really.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", file, "1M"], check=True)
    return file


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache.json"


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A device that opens, whatever the host has."""
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(acceleration, "_DEVICE", device)
    return device


@pytest.fixture
def qemu(device: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Qemu:
    """Put a program in QEMU's place that does what it is told to; its runs are lines of the file returned."""
    assert device.exists()
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    runs = tmp_path / "runs"
    runs.touch()
    program = programs / "qemu-system-x86_64"
    program.write_text(f"#!/bin/sh\necho run >>{runs}\n. {programs}/script\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def stand_in(script: str) -> Path:
        (programs / "script").write_text(script)
        return runs

    return stand_in


UP = "echo '[    1.0] Linux'; echo 'tiny: up'; exec sleep 60"


def count(runs: Path) -> int:
    return len(runs.read_text().splitlines())


def test_the_host_as_it_is(image: Path, cache: Path) -> None:
    """An empty image boots nowhere; the answer is quick where QEMU does not even start."""
    assert acceleration.usable(image.with_name("nothing"), cache) is False
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        begun = time.monotonic()
        assert acceleration.usable(image, cache) is False
        assert time.monotonic() - begun < 0.1


def test_a_guest_that_boots(image: Path, cache: Path, qemu: Qemu) -> None:
    runs = qemu(UP)
    for _ in range(3):
        begun = time.monotonic()
        assert acceleration.usable(image, cache) is True
        assert time.monotonic() - begun < 2
    assert count(runs) == 1


def test_a_guest_that_hangs(
    image: Path, cache: Path, qemu: Qemu, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(acceleration, "_PATIENCE", 0.5)
    monkeypatch.setattr(acceleration, "_END", 0.1)
    runs = qemu("echo SeaBIOS; exec sleep 60")
    for _ in range(2):
        assert acceleration.usable(image, cache) is False
    assert count(runs) == 1
    assert "hung under it" in caplog.messages[0]
    assert 'acceleration = "kvm"' in caplog.messages[0]
    assert str(cache) in caplog.messages[1]


@pytest.mark.parametrize(("end", "runs_of_two"), [("kill -ABRT $$", 1), ("exit 1", 2)])
def test_a_qemu_that_ends_at_once(
    image: Path, cache: Path, qemu: Qemu, caplog: pytest.LogCaptureFixture, end: str, runs_of_two: int
) -> None:
    """An assertion fails again, a want of memory may pass."""
    runs = qemu(f"echo 'failed to set MSR' >&2; {end}")
    begun = time.monotonic()
    for _ in range(2):
        assert acceleration.usable(image, cache) is False
    assert time.monotonic() - begun < 2
    assert count(runs) == runs_of_two
    assert "QEMU ended: failed to set MSR" in caplog.messages[0]


@pytest.mark.parametrize("change", ["kernel", "cpu", "qemu", "image", "other image"])
def test_tried_again_when_the_host_changes(
    image: Path, cache: Path, qemu: Qemu, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    runs = qemu("kill -ABRT $$")
    assert acceleration.usable(image, cache) is False
    if change == "kernel":
        monkeypatch.setattr("platform.release", lambda: "99.0")
    elif change == "cpu":
        read = Path.read_text
        monkeypatch.setattr(
            Path, "read_text", lambda path: "model name : new" if path.name == "cpuinfo" else read(path)
        )
    elif change == "image":
        os.utime(image, (1, 1))
    elif change == "other image":
        image = image.rename(image.with_name("other.qcow2"))
    elif change == "qemu":
        os.utime(Path(os.environ["PATH"].partition(":")[0]) / "qemu-system-x86_64", (1, 1))
    assert count(runs) == 1
    qemu(UP)
    assert acceleration.usable(image, cache) is True
    assert acceleration.usable(image, cache) is True
    assert count(runs) == 2


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"host": 1}', "\ud800", '{"host": {}, "usable": "yes"}']
)
def test_a_broken_cache(image: Path, cache: Path, qemu: Qemu, content: str) -> None:
    runs = qemu(UP)
    cache.write_bytes(content.encode("utf-8", "surrogatepass"))
    assert acceleration.usable(image, cache) is True
    assert acceleration.usable(image, cache) is True
    assert count(runs) == 1


def test_a_cache_that_cannot_be_written(
    image: Path, tmp_path: Path, qemu: Qemu, caplog: pytest.LogCaptureFixture
) -> None:
    qemu(UP)
    assert acceleration.usable(image, tmp_path / "none" / "cache.json") is True
    assert "cannot be kept" in caplog.text


def test_no_qemu(
    image: Path, cache: Path, device: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert device.exists()
    monkeypatch.setenv("PATH", "/nowhere")
    assert acceleration.usable(image, cache) is False
    assert "could not be tried" in caplog.text
    assert not cache.exists()


def test_an_image_that_is_none(
    cache: Path, tmp_path: Path, qemu: Qemu, caplog: pytest.LogCaptureFixture
) -> None:
    runs = qemu(UP)
    image = tmp_path / "image"
    image.write_bytes(b"no image")
    assert acceleration.usable(image, cache) is False
    assert "could not be tried" in caplog.text
    assert count(runs) == 0


def test_what_to_do_is_said(
    image: Path, cache: Path, device: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert acceleration.usable(image.with_name("none"), cache) is False
    assert "hypervisor image build tiny" in caplog.text
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert acceleration.usable(image, cache) is False
    assert "group kvm" in caplog.text
    device.unlink()
    caplog.set_level(logging.INFO)
    assert acceleration.usable(image, cache) is False
    assert "there is no" in caplog.messages[-1]
