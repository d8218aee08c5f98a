"""What is fuzzed: the codec with whatever bytes, and every method with whatever arguments.

Both say nothing when all is well, and raise when something else came back than an answer or a fault.
"""

import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from lxml import etree
from sqlalchemy import event

from api.methods.faults import Fault
from api.store.database import Store
from api.store.schema import upgrade
from api.wire.codec import parse_request, render_fault, render_response
from tests.fuzz.reader import calls
from tests.methods.world import ALICE, World, begin, fill

Target = Callable[[bytes], None]

# of an answer, in bytes: the lists of a full world are a tenth of it
_LONGEST = 1 << 20


def codec(body: bytes) -> None:
    """Parse a request, and send back what it carried."""
    try:
        method, arguments = parse_request(body)
        answer = render_response([method, arguments])
    except Fault as fault:
        answer = _fault(fault)
    _check(answer)


class Methods:
    """Call methods on a full store; what one input changed, the next one does not see."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        store = Store(f"sqlite:///{self._folder / 'store.db'}", "NORMAL")
        upgrade(store)
        begin(store)
        self._world = World(store)
        fill(self._world)
        self._first = sqlite3.connect(":memory:")
        with closing(sqlite3.connect(self._folder / "store.db")) as filled:
            filled.backup(self._first)
        self._changed = False
        self.changes = 0
        """How many inputs changed something."""
        event.listen(store.engine, "before_cursor_execute", self._look)

    def __call__(self, data: bytes) -> None:
        """Make the calls that the bytes stand for."""
        for name, given in calls(data):
            try:
                answer = render_response(
                    self._world.dispatch(name, given, "192.0.2.1", "http://api.example:8080/")
                )
            except Fault as fault:
                answer = _fault(fault)
            _check(answer)
        if self._changed:
            # into the same file: each engine of SQLAlchemy leaves something in its caches
            with closing(sqlite3.connect(self._folder / "store.db")) as changed:
                self._first.backup(changed)
            self._changed = False
            self.changes += 1

    def objects(self) -> dict[str, Any]:
        """How much of everything there is."""
        names = [f"hosting.{kind}.count" for kind in ("vm", "disk", "iface", "ip", "vlan")]
        return {name: self._world.dispatch(name, [ALICE], "192.0.2.1") for name in names}

    def _look(self, _connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        self._changed = self._changed or statement.startswith(("INSERT", "UPDATE", "DELETE"))

    def close(self) -> None:
        """Remove the databases."""
        self._world.close()
        self._first.close()
        shutil.rmtree(self._folder)


def _fault(fault: Fault) -> bytes:
    assert fault.code == 1 or 500000 <= fault.code < 600000, fault
    assert len(fault.text) < 2000, fault.text
    assert "Traceback" not in fault.text, fault.text
    return render_fault(fault)


def _check(answer: bytes) -> None:
    assert len(answer) < _LONGEST
    assert etree.fromstring(answer).tag == "methodResponse"
