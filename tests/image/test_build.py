"""What a build promises around the work itself: errors that help, progress, nothing left behind."""

import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from hypervisor.image import build as build_module
from hypervisor.image import command, cpio, packages
from hypervisor.image.build import build, recipe_digest
from hypervisor.image.errors import ImageError
from hypervisor.image.mirror import STANDARD, Mirror
from hypervisor.image.modules import load_order
from hypervisor.image.progress import Progress, part


def test_unknown_image(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="tiny, debian-12"):
        build("nothing", tmp_path / "a")


def test_digest_is_stable_and_names_the_recipe() -> None:
    assert recipe_digest("tiny") == recipe_digest("tiny") != recipe_digest("debian-12")


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ImageError])
def test_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: type[BaseException]
) -> None:
    def recipe(work: Path, _mirror: Mirror, _progress: Progress) -> Path:
        (work / "half").write_text("x")
        raise failure

    monkeypatch.setattr(build_module, "RECIPES", {"tiny": recipe})
    monkeypatch.setattr(build_module, "_check", lambda _name, _path: None)
    (tmp_path / "image").write_text("the older one")
    with pytest.raises(failure):
        build("tiny", tmp_path / "image", STANDARD)
    assert [path.name for path in tmp_path.iterdir()] == ["image"]
    assert (tmp_path / "image").read_text() == "the older one"


def test_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(command.PACKAGES, "no-such-program", "some-package")
    with pytest.raises(ImageError, match="apt-get install some-package"):
        command.require(["no-such-program", "sh"])


@pytest.mark.parametrize(
    ("output", "advice"),
    [
        ("E: Failed to fetch http://m/InRelease", "--mirror"),
        ("cp: No space left on device", "disk space"),
        ("NO_PUBKEY 0E98404D386FA1D9", "debian-archive-keyring"),
        ("something else", "status 3"),
    ],
)
def test_failure_says_what_to_do(output: str, advice: str) -> None:
    with pytest.raises(ImageError, match=advice):
        command.run(["sh", "-c", f"echo '{output}'; exit 3"])


def test_interrupt_ends_the_program_and_its_children(tmp_path: Path) -> None:
    mark = tmp_path / "child"
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        command.run(["sh", "-c", f"sleep 60 & echo $! > {mark}; wait"])
    process = subprocess.run(
        ["ps", "-o", "stat=", "-p", mark.read_text().strip()], capture_output=True, text=True
    )
    assert process.stdout.strip() in {"", "Z"}


def test_progress_moves_with_the_packages() -> None:
    seen: list[tuple[str, float]] = []
    meter = packages._Meter(part(lambda step, fraction: seen.append((step, fraction)), 0.0, 0.5))
    lines = ["I: running apt-get update...", "I: downloading packages with apt...", "2 newly installed",
             "Get:1 a", "Get:2 b", "I: extracting archives...", "I: installing essential packages...",
             "Unpacking a", "I: cleaning package lists and apt cache..."]  # fmt: skip
    for line in lines:
        meter(line)
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] < fractions[-1] <= 0.5
    assert len(set(fractions)) >= 6


def test_modules_come_after_what_they_need() -> None:
    dependencies = "k/a-b.ko: k/c.ko k/d.ko\nk/c.ko: k/d.ko\nk/d.ko:\nk/e.ko.xz:\n"
    assert load_order(dependencies, ["a_b", "e"]) == ["k/d.ko", "k/c.ko", "k/a-b.ko", "k/e.ko.xz"]
    with pytest.raises(KeyError):
        load_order(dependencies, ["z"])


def test_cpio_reads_what_was_written() -> None:
    data = cpio.archive([cpio.Entry("bin"), cpio.Entry("bin/x", b"hello"), cpio.Entry("y", b"", 0o644)])
    listing = subprocess.run(
        ["cpio", "-itv", "--quiet"], input=data, capture_output=True, check=True
    ).stdout.decode()
    assert [line.split()[0] for line in listing.splitlines()] == ["drwxr-xr-x", "-rwxr-xr-x", "-rw-r--r--"]
