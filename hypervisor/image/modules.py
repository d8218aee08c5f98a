"""Kernel modules: which files, in which order."""

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath


def load_order(dependencies: str, names: Iterable[str]) -> list[str]:
    """List the files of modules, each after those it needs.

    Args:
        dependencies: the text of `modules.dep`.
        names: modules as modprobe names them; `-` and `_` are the same.

    Raises:
        KeyError: there is no such module.
    """
    needs: dict[str, list[str]] = {}
    by_name: dict[str, str] = {}
    for line in dependencies.splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
        by_name[_name(path)] = path

    def walk(path: str) -> Iterator[str]:
        for needed in needs[path]:
            yield from walk(needed)
        yield path

    ordered = (path for name in names for path in walk(by_name[name.replace("-", "_")]))
    return list(dict.fromkeys(ordered))


def _name(path: str) -> str:
    return PurePosixPath(path).name.split(".")[0].replace("-", "_")
