"""Ids that were never used."""

from collections import defaultdict
from collections.abc import Mapping

MARGIN = 100
"""How many ids are passed over, in each table: those of what was made and removed after the last note."""


class Ids:
    """The ids in use, by table."""

    def __init__(self) -> None:
        self._last: defaultdict[str, int] = defaultdict(int)

    def saw(self, table: str, number: int) -> None:
        """Take note of an id."""
        self._last[table] = max(self._last[table], number)

    def saw_all(self, last: Mapping[str, int]) -> None:
        """Take note of the highest id of each table."""
        for table, number in last.items():
            self.saw(table, number)

    def new(self, table: str) -> int:
        """An id above all that were seen."""
        self._last[table] += 1
        return self._last[table]

    def next_start(self, table: str) -> int:
        """The id that the next new record is to come after."""
        return self._last[table] + MARGIN
