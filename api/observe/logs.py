"""Log lines: for people, or as JSON, one object on each line. Both carry the facts of `context`."""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Literal

from api.observe import context

Format = Literal["text", "json"]

_PLAIN = re.compile(r"[A-Za-z0-9_.:-]+")
_MARK = "facts"


class Text(logging.Formatter):
    """``2026-01-31 12:00:00,000 INFO api.operations.run [operation=17 job=9 vm=4] vm_create begins``."""

    def __init__(self) -> None:
        super().__init__(f"%(asctime)s %(levelname)s %(name)s%({_MARK})s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The line, and a traceback below it."""
        known = " ".join(f"{name}={_quoted(fact)}" for name, fact in context.facts().items())
        setattr(record, _MARK, f" [{known}]" if known else "")
        return super().format(record)


class Json(logging.Formatter):
    """``{"time": …, "level": "INFO", "logger": …, "message": …, "operation": 17, "job": 9, "vm": 4}``.

    `time` is UTC (RFC 3339) with microseconds; a traceback is in `exception`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The object on a line of its own: JSON writes line ends as ``\\n``."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        line: dict[str, object] = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **context.facts(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure(form: Format) -> None:
    """Write everything from INFO on to stderr in this form; what DBOS and gunicorn say from WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json() if form == "json" else Text())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # it brings a handler of its own unless it has one
    theirs = logging.getLogger("dbos")
    theirs.addHandler(handler)
    theirs.propagate = False


def _quoted(fact: str | int) -> str:
    text = str(fact)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
