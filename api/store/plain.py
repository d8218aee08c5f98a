"""Records as plain values that JSON carries, and back."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import inspect

from api.store.models import Record

R = TypeVar("R", bound=Record)


def plain(record: Record, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The record's columns, dates in ISO 8601; not those that are None, nor those in `without`."""
    found = {column.key: getattr(record, column.key) for column in inspect(type(record)).column_attrs}
    return {
        key: value.isoformat() if isinstance(value, datetime) else value
        for key, value in found.items()
        if value is not None and key not in without
    }


def restored(model: type[R], values: Mapping[str, Any], **others: Any) -> R:
    """A record of `values`, which `plain` gave, and of `others`, which win. What the model has no column for
    is passed over: a newer version may have written it."""
    mapper = inspect(model)
    given = {**values, **others}
    columns = {key: mapper.columns[key] for key in mapper.columns.keys() if key in given}  # noqa: SIM118
    return model(**{key: _value(given[key], column.type.python_type) for key, column in columns.items()})


def _value(value: Any, kind: type) -> Any:
    return datetime.fromisoformat(value) if kind is datetime and isinstance(value, str) else value
