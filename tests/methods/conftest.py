"""The world, made anew for each test."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.store.database import Store
from api.store.schema import upgrade
from tests.methods.world import World, begin


@pytest.fixture(scope="session")
def first_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the accounts and the datacenters in it."""
    file = tmp_path_factory.mktemp("first") / "store.db"
    store = Store(f"sqlite:///{file}")
    upgrade(store)
    begin(store)
    store.close()
    return file


@pytest.fixture
def world(first_store: Path, tmp_path: Path) -> Iterator[World]:
    """A store of its own for one test."""
    file = tmp_path / "store.db"
    shutil.copyfile(first_store, file)
    world = World(Store(f"sqlite:///{file}"))
    yield world
    world.close()
