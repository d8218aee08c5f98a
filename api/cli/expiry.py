"""When a key expires, as a person says it."""

import re
from datetime import UTC, datetime, timedelta

import click

_SPAN = re.compile(r"([1-9][0-9]{0,5})([mhdw])\Z")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_FORMS = ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S")


class Expiry(click.ParamType):
    """``30d``, ``12h``, or a date in UTC: the first moment at which a key is not good any more."""

    name = "SPAN|DATE"

    def convert(
        self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        now = datetime.now(UTC).replace(microsecond=0, tzinfo=None)
        moment = _moment(value, now)
        if moment is None:
            self.fail(f"{value!r} is not like 30d, 12h, 2030-01-31 or 2030-01-31T12:00:00 (UTC)", param, ctx)
        if moment <= now:
            self.fail(f"{moment} UTC is past", param, ctx)
        return moment


def _moment(value: str, now: datetime) -> datetime | None:
    span = _SPAN.match(value)
    try:
        if span is not None:
            return now + timedelta(**{_UNITS[span[2]]: int(span[1])})
    except OverflowError:
        return None
    for form in _FORMS:
        try:
            return datetime.strptime(value, form)  # noqa: DTZ007 - the records' dates carry no zone
        except ValueError:
            continue
    return None
