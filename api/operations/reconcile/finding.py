"""One difference."""

from collections.abc import Callable
from dataclasses import dataclass, field

from api.operations.backend import Backend


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference about an object (``vm:12``), in a sentence without its end.

    `remedy` says what mending does, and `mend` does it; both are None for what only a person can decide.
    """

    about: str
    text: str
    remedy: str | None = None
    mend: Callable[[Backend], None] | None = field(default=None, compare=False)

    @property
    def sentence(self) -> str:
        """The difference, and what ``--fix`` would do."""
        return f"{self.text}: --fix {self.remedy or 'leaves it alone'}."
