"""Pools of a real libvirt, in folders of the test's own."""

import itertools
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
import pytest

from hypervisor.storage import pool

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Pool:
    """A pool by its name, and its folder."""

    connection: libvirt.virConnect
    name: str
    path: Path

    @property
    def files(self) -> list[str]:
        """What is in the folder."""
        return sorted(file.name for file in self.path.iterdir())


def image_info(file: Path, *options: str) -> Any:
    """What qemu-img says of an image."""
    return json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", *options, file]))


def qemu_io(file: Path, *commands: str, form: str = "qcow2") -> None:
    """Read or write in an image; reading checks the pattern."""
    arguments = [part for command in commands for part in ("-c", command)]
    subprocess.run(["qemu-io", "-f", form, *arguments, file], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def connection() -> Iterator[libvirt.virConnect]:
    """The libvirt of the lab."""
    if "HYPERVISOR_LAB" not in os.environ:
        pytest.skip("needs a libvirtd of its own: python -m hypervisor.lab -- pytest")
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    connection = libvirt.open("qemu:///system")
    yield connection
    connection.close()


@pytest.fixture
def make_pool(connection: libvirt.virConnect) -> Iterator[Callable[[Path], Pool]]:
    """Make pools, and let libvirt forget them after the test."""
    made: list[str] = []

    def make(path: Path) -> Pool:
        made.append(f"test-{os.getpid()}-{next(_numbers)}")
        pool.ensure(connection, made[-1], path)
        return Pool(connection, made[-1], path)

    yield make
    for name in made:
        handle = connection.storagePoolLookupByName(name)
        if handle.isActive():
            handle.destroy()
        handle.undefine()


@pytest.fixture
def place(make_pool: Callable[[Path], Pool], tmp_path: Path) -> Pool:
    """A running, empty pool."""
    return make_pool(tmp_path / "pool")


@pytest.fixture
def small(make_pool: Callable[[Path], Pool], tmp_path: Path) -> Iterator[Pool]:
    """A pool with 4 MiB of space."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True)
    yield make_pool(folder)
    subprocess.run(["umount", "--lazy", folder], check=True)
