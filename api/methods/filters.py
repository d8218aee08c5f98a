"""Filters, order and pages of the ``list`` and ``count`` methods.

A scalar means equality, an array "one of" (the empty one matches nothing), several keys must all match;
``~key`` is a pattern (anywhere in the text, in any case; ``*`` and ``%`` stand for anything), ``<key`` and
``>key`` are before and after. Rows come by ascending id unless `sort_by` says otherwise.
"""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field
from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    SQLColumnExpression,
    String,
    cast,
    false,
    func,
    null,
    select,
)
from sqlalchemy.orm import Session

from api.methods.faults import Cause, Object, refuse
from api.methods.parameters import Int, Ints, Parameters, Text, Texts

Columns = Mapping[str, SQLColumnExpression[Any]]
R = TypeVar("R")

# keys of the reference about things that no record has: whatever value is given, nothing matches
NO_INTEGER: SQLColumnExpression[Any] = cast(null(), Integer)
NO_TEXT: SQLColumnExpression[Any] = cast(null(), String)


def _texts(value: Any) -> Any:
    # an integer is never equal to a text: it is left out, so that it matches nothing
    listing = value if isinstance(value, list) else [value]
    if not any(isinstance(one, int) and not isinstance(one, bool) for one in listing):
        return value
    return [one for one in listing if isinstance(one, bool) or not isinstance(one, int)]


IntFilter = Ints
TextFilter = Annotated[Texts, BeforeValidator(_texts)]
# SQLite refuses patterns of more than 50000 bytes
Pattern = Annotated[str, Field(max_length=1000)]


class Page(Parameters):
    """The keys that every ``list`` takes beside its filters."""

    items_per_page: Annotated[Int, Field(ge=1, le=10000)] = 100
    page: Annotated[Int, Field(ge=0)] = 0
    sort_by: Text | None = None


_PAGE_KEYS = frozenset(Page.model_fields)


def matching(query: Select[R], options: Parameters | None, columns: Columns) -> Select[R]:
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


def _condition(key: str, column: SQLColumnExpression[Any], value: Any) -> ColumnElement[bool]:
    condition: ColumnElement[bool]
    if key.startswith("~"):
        pattern = value.replace("\\", "\\\\").replace("_", "\\_").replace("*", "%")
        condition = column.ilike(f"%{pattern}%", escape="\\")
    elif key.startswith("<"):
        condition = column < value
    elif key.startswith(">"):
        condition = column > value
    elif isinstance(value, list):
        condition = column.in_(value) if value else false()
    else:
        condition = column == value
    return condition


def paged(query: Select[R], options: Page | None, columns: Columns) -> Select[R]:
    """`query` in its order, cut to the page that `options` asks for."""
    options = options or Page()
    query = query.order_by(*_order(options.sort_by, columns), columns["id"])
    return query.limit(options.items_per_page).offset(options.page * options.items_per_page)


def _order(sort_by: str | None, columns: Columns) -> list[ColumnElement[Any]]:
    if not sort_by:
        return []
    key, direction = [*sort_by.split(None, 1), "", ""][:2]
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


def counted(session: Session, query: Select[R]) -> int:
    """How many rows `query` has."""
    return session.scalar(select(func.count()).select_from(query.order_by(None).subquery())) or 0
