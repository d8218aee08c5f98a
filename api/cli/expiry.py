"""When a key expires, as a person says it."""

import re
from datetime import datetime, timedelta

import click

from api.store.models import now

_SPAN = re.compile(r"([1-9][0-9]{0,5})([mhdw])\Z")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_FORMS = ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S")


def expiry(_context: click.Context, _option: click.Parameter, value: str | None) -> datetime | None:
    """What ``--expires`` means, ``30d``, ``12h`` or a date in UTC: the moment from which a key is not good.

    Raises click's fault for what is not understood, or past.
    """
    if value is None:
        return None
    at = now()
    moment = _moment(value, at)
    if moment is None:
        raise click.BadParameter(f"{value!r} is not like 30d, 12h, 2030-01-31 or 2030-01-31T12:00:00 (UTC)")
    if moment <= at:
        raise click.BadParameter(f"{moment} UTC is past")
    return moment


def _moment(value: str, at: datetime) -> datetime | None:
    span = _SPAN.match(value)
    try:
        if span is not None:
            return at + timedelta(**{_UNITS[span[2]]: int(span[1])})
    except OverflowError:
        return None
    for form in _FORMS:
        try:
            return datetime.strptime(value, form)  # noqa: DTZ007 - the records' dates carry no zone
        except ValueError:
            continue
    return None
