"""The reference's parameter tables as models, and how a value that does not fit one becomes the API's fault.

Types are those of the wire: nothing is coerced but an integer where a double is wanted.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from api.methods.faults import Cause, Fault, Object, refuse

MAX_INT = 2**31 - 1


class Parameters(BaseModel):
    """A struct of parameters: no unknown key, no coercion, never changed after the check."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, populate_by_name=False)


def invalid(subject: Object, cause: Cause, reason: str) -> PydanticCustomError:
    """What a validator raises when the fault is a special one; `reason` may be shown to the caller."""
    return PydanticCustomError(
        "fault", "{reason}", {"reason": reason, "subject": int(subject), "cause": int(cause)}
    )


def _no_boolean(value: Any) -> Any:
    # bool is an int to Python, not to XML-RPC
    if isinstance(value, bool):
        raise PydanticCustomError("int_type", "Input should be a valid integer")
    return value


def _no_boolean_double(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("float_type", "Input should be a valid number")
    return value


def listed(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Take one value for an array of it."""
    if isinstance(value, list):
        return check(value)
    try:
        return check([value])
    except ValidationError as error:
        # the caller gave no array, so the fault names no position in one
        detail = error.errors(include_url=False, include_input=False)[0]
        context = {**detail.get("ctx", {}), "said": detail["msg"]}
        raise PydanticCustomError(detail["type"], "{said}", context) from None


Int = Annotated[int, BeforeValidator(_no_boolean), Field(ge=-MAX_INT - 1, le=MAX_INT)]
Text = Annotated[str, Field(max_length=65535)]
Double = Annotated[float, BeforeValidator(_no_boolean_double), Field(allow_inf_nan=False)]
Ints = Annotated[list[Int], WrapValidator(listed), Field(max_length=1000)]
Texts = Annotated[list[Text], WrapValidator(listed), Field(max_length=1000)]

_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)\Z")


def is_hostname(value: str) -> bool:
    """Whether `value` is a host name by RFC 1123."""
    return len(value) <= 253 and all(_LABEL.match(label) for label in value.split("."))


def _hostname(value: str) -> str:
    if not is_hostname(value):
        raise invalid(
            Object.VM,
            Cause.HOSTNAME,
            f"hostname {value[:80]!r} is not valid: use labels of 1 to 63 letters, digits and inner hyphens, "
            "separated by dots, 253 characters in all (RFC 1123)",
        )
    return value


def _memory(value: int) -> int:
    if value < 64 or value % 64:
        raise invalid(Object.VM, Cause.BADPARAMETER, f"memory {value} is not a positive multiple of 64 (MiB)")
    return value


def _ip_version(value: Any) -> Any:
    # documented as a string, sent as an integer by most clients
    if isinstance(value, str) and value in ("4", "6"):
        return int(value)
    if isinstance(value, str):
        raise invalid(Object.STRING, Cause.BADPARAMETER, "ip_version is 4 or 6")
    return value


def _known_version(value: int) -> int:
    if value not in (4, 6):
        raise PydanticCustomError("out_of_range_int", "ip_version is 4 or 6")
    return value


def _date(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    for form in ("%Y%m%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"):
        try:
            return datetime.strptime(value, form)  # noqa: DTZ007 - the wire format's dates carry no zone
        except (ValueError, TypeError):
            continue
    raise invalid(Object.DATE, Cause.SYNTAX, "a date is YYYYMMDDTHH:MM:SS or YYYY-MM-DD[ HH:MM:SS], in UTC")


Hostname = Annotated[str, AfterValidator(_hostname)]
Memory = Annotated[Int, AfterValidator(_memory)]
IpVersion = Annotated[Int, AfterValidator(_known_version), BeforeValidator(_ip_version)]
Date = Annotated[datetime, BeforeValidator(_date)]

# pydantic's error type -> the object and cause of the fault
_FAULTS = {
    "int_type": (Object.INTEGER, Cause.TYPE),
    "int_from_float": (Object.INTEGER, Cause.TYPE),
    "bool_type": (Object.BOOLEAN, Cause.TYPE),
    "string_type": (Object.STRING, Cause.TYPE),
    "string_sub_type": (Object.STRING, Cause.TYPE),
    "float_type": (Object.FLOAT, Cause.TYPE),
    "finite_number": (Object.FLOAT, Cause.BADPARAMETER),
    "list_type": (Object.LIST, Cause.TYPE),
    "dict_type": (Object.STRUCT, Cause.TYPE),
    "model_type": (Object.STRUCT, Cause.TYPE),
    "model_attributes_type": (Object.STRUCT, Cause.TYPE),
    "missing": (Object.STRUCT, Cause.BADPARAMETER),
    "extra_forbidden": (Object.STRUCT, Cause.BADPARAMETER),
    "greater_than_equal": (Object.INTEGER, Cause.BADPARAMETER),
    "less_than_equal": (Object.INTEGER, Cause.BADPARAMETER),
    "greater_than": (Object.INTEGER, Cause.BADPARAMETER),
    "less_than": (Object.INTEGER, Cause.BADPARAMETER),
    "out_of_range_int": (Object.INTEGER, Cause.BADPARAMETER),
    "too_long": (Object.LIST, Cause.BADPARAMETER),
    "too_short": (Object.LIST, Cause.BADPARAMETER),
}
_SAID = {
    "missing": "the key is mandatory",
    "extra_forbidden": "unknown key",
    "model_type": "Input should be a struct",
    "model_attributes_type": "Input should be a struct",
    "dict_type": "Input should be a struct",
    "list_type": "Input should be a valid array",
}
_ORDER = {Cause.TYPE: 0, Cause.SYNTAX: 1}


def as_faults(error: ValidationError) -> list[Fault]:
    """One fault for each wrong field, wrong types before wrong values."""
    faults = [_as_fault(detail) for detail in error.errors(include_url=False)]
    return sorted(faults, key=lambda fault: _ORDER.get(Cause(fault.code % 100), 2))


def _as_fault(detail: ErrorDetails) -> Fault:
    fields = tuple(str(part) for part in detail["loc"])
    if detail["type"] == "fault":
        context = detail["ctx"]
        return refuse(
            Object(context["subject"]), Cause(context["cause"]), _named(fields, context["reason"]), *fields
        )
    subject, cause = _FAULTS.get(detail["type"], (Object.STRING, Cause.BADPARAMETER))
    if cause is Cause.BADPARAMETER and subject is Object.INTEGER and isinstance(detail["input"], float):
        subject = Object.FLOAT
    return refuse(subject, cause, _named(fields, _SAID.get(detail["type"], detail["msg"])), *fields)


def _named(fields: Iterable[str], reason: str) -> str:
    # an unknown key may be of any length
    path = ".".join(field[:80] for field in fields)
    return f"{path}: {reason}" if path and path.rsplit(".", 1)[-1] not in reason else reason
