"""Filters, order and pages of the ``list`` and ``count`` methods.

A scalar means equality, an array "one of" (the empty one matches nothing), several keys must all match; ``~key`` is a
pattern (case-insensitive, anywhere in the text, ``*`` and ``%`` stand for anything), ``<key`` and ``>key`` are before
and after. Rows come by ascending id unless `sort_by` says otherwise.
"""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import Field
from sqlalchemy import ColumnElement, Select, false, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from api.methods.faults import Cause, Object, refuse
from api.methods.parameters import Int, Parameters, Text

Columns = Mapping[str, InstrumentedAttribute[Any]]
R = TypeVar("R")


class Page(Parameters):
    """The keys that every ``list`` takes beside its filters."""

    items_per_page: Annotated[Int, Field(ge=1, le=10000)] = 100
    page: Annotated[Int, Field(ge=0)] = 0
    sort_by: Text | None = None


_PAGE_KEYS = frozenset(Page.model_fields)


def matching(query: Select[tuple[R]], options: Parameters | None, columns: Columns) -> Select[tuple[R]]:
    """`query` narrowed to the filters that `options` carries; `columns` says what each key is about."""
    if options is None:
        return query
    given = options.model_dump(by_alias=True, exclude_unset=True)
    return query.where(
        *(
            _condition(key, columns[key.lstrip("~<>")], value)
            for key, value in given.items()
            if key not in _PAGE_KEYS and value is not None
        )
    )


def _condition(key: str, column: InstrumentedAttribute[Any], value: Any) -> ColumnElement[bool]:
    if key.startswith("~"):
        pattern = value.replace("\\", "\\\\").replace("_", "\\_").replace("*", "%")
        return column.ilike(f"%{pattern}%", escape="\\")
    if key.startswith("<"):
        return column < value
    if key.startswith(">"):
        return column > value
    if isinstance(value, list):
        return column.in_(value) if value else false()
    return column == value


def paged(query: Select[tuple[R]], options: Page | None, columns: Columns) -> Select[tuple[R]]:
    """`query` in its order, cut to the page that `options` asks for."""
    options = options or Page()
    query = query.order_by(*_order(options.sort_by, columns), columns["id"])
    return query.limit(options.items_per_page).offset(options.page * options.items_per_page)


def _order(sort_by: str | None, columns: Columns) -> list[ColumnElement[Any]]:
    if not sort_by:
        return []
    key, _, direction = sort_by.partition(" ")
    if key not in columns or direction.upper() not in ("", "ASC", "DESC"):
        known = ", ".join(sorted(columns))
        raise refuse(
            Object.STRING,
            Cause.BADPARAMETER,
            f"sort_by: {sort_by[:80]!r} is not one of {known}, with ASC or DESC behind it",
            "sort_by",
        )
    column = columns[key]
    return [column.desc() if direction.upper() == "DESC" else column.asc()]


def counted(session: Session, query: Select[tuple[R]]) -> int:
    """How many rows `query` has."""
    return session.scalar(select(func.count()).select_from(query.order_by(None).subquery())) or 0
