"""The world, made anew for each test."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.store.database import Store
from api.store.schema import upgrade
from tests.methods.world import World


@pytest.fixture(scope="session")
def schema_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the schema and nothing in it."""
    file = tmp_path_factory.mktemp("schema") / "store.db"
    store = Store(f"sqlite:///{file}")
    upgrade(store)
    store.close()
    return file


@pytest.fixture
def world(schema_file: Path, tmp_path: Path) -> Iterator[World]:
    """A store of its own for one test."""
    file = tmp_path / "store.db"
    shutil.copyfile(schema_file, file)
    store = Store(f"sqlite:///{file}")
    yield World(store)
    store.close()
