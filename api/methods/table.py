"""The method table: every method of the API once, with its parameters, its text and its aliases."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from api.methods.faults import Cause, Fault, Object, refuse
from api.methods.parameters import as_faults

_STRICT = ConfigDict(strict=True)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A positional parameter after the API key."""

    name: str
    adapter: TypeAdapter[Any]
    mandatory: bool
    default: Any
    wire_type: str


@dataclass(frozen=True, slots=True)
class Method:
    """A method: its canonical name and its aliases, what it takes and gives."""

    name: str
    aliases: tuple[str, ...]
    function: Callable[..., Any]
    parameters: tuple[Parameter, ...]
    returns: str
    takes_key: bool
    checks_key: bool
    changes: bool

    @property
    def help(self) -> str:
        """What the method does, for people."""
        return inspect.cleandoc(self.function.__doc__ or "")

    @property
    def signatures(self) -> list[list[str]]:
        """Return type and parameter types, once for each number of arguments that is accepted."""
        key = ["string"] if self.takes_key else []
        types = [parameter.wire_type for parameter in self.parameters]
        least = sum(parameter.mandatory for parameter in self.parameters)
        return [[self.returns, *key, *types[:count]] for count in range(least, len(types) + 1)]

    def bind(self, arguments: list[Any]) -> list[Any]:
        """Check positional `arguments` (without the key); raises the Fault of the first wrong one."""
        bound, faults = self.check(arguments)
        if faults:
            raise faults[0]
        return bound

    def check(self, arguments: list[Any]) -> tuple[list[Any], list[Fault]]:
        """The values of positional `arguments`, and one Fault for each that is wrong or has a wrong key."""
        least = sum(parameter.mandatory for parameter in self.parameters)
        if not least <= len(arguments) <= len(self.parameters):
            wanted = str(least) if least == len(self.parameters) else f"{least} to {len(self.parameters)}"
            after = " after the API key" if self.takes_key else ""
            plural = "" if wanted == "1" else "s"
            text = f"{self.name} takes {wanted} argument{plural}{after}, not {len(arguments)}"
            return [], [refuse(Object.METHOD, Cause.BADPARAMETER, text)]
        bound: list[Any] = []
        faults: list[Fault] = []
        for position, parameter in enumerate(self.parameters):
            if position >= len(arguments) or (arguments[position] is None and not parameter.mandatory):
                bound.append(parameter.default)
                continue
            try:
                bound.append(parameter.adapter.validate_python(arguments[position]))
            except ValidationError as error:
                faults += (_in_parameter(parameter.name, fault) for fault in as_faults(error))
        return bound, faults


def _in_parameter(name: str, fault: Fault) -> Fault:
    # a fault about the argument itself names it; one about a key of it already names the key
    if fault.fields:
        return Fault(fault.code, fault.text, (name, *fault.fields))
    return Fault(fault.code, fault.text.replace("[", f"[{name}: ", 1), (name,))


_TABLE: dict[str, Method] = {}
_NAMES: dict[str, Method] = {}


def method(
    name: str,
    returns: str,
    *,
    alias: bool = True,
    takes_key: bool = True,
    checks_key: bool = True,
    changes: bool = True,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function into the table as `name`.

    `returns` is the answer's wire type. With `alias`, a name under ``hosting.`` is served without that too.
    Without `changes`, it changes nothing, and a read-only key may call it; nobody is allowed by an oversight.
    The function's first parameter is the `Call`, the others are the method's, checked by their annotations.
    """

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        hints = get_type_hints(function, include_extras=True)
        _, *declared = inspect.signature(function).parameters.values()
        aliases = (name.removeprefix("hosting."),) if alias and name.startswith("hosting.") else ()
        entry = Method(
            name=name,
            aliases=aliases,
            function=function,
            parameters=tuple(_parameter(one, hints[one.name]) for one in declared),
            returns=returns,
            takes_key=takes_key,
            checks_key=checks_key,
            changes=changes,
        )
        _TABLE[name] = entry
        for known_as in (name, *aliases):
            _NAMES[known_as] = entry
        return function

    return enter


def _parameter(declared: inspect.Parameter, hint: Any) -> Parameter:
    adapter: TypeAdapter[Any] = TypeAdapter(hint, config=None if _is_model(hint) else _STRICT)
    mandatory = declared.default is inspect.Parameter.empty
    return Parameter(
        declared.name, adapter, mandatory, None if mandatory else declared.default, _wire_type(adapter)
    )


def _is_model(hint: Any) -> bool:
    try:
        TypeAdapter(hint, config=_STRICT)
    except PydanticUserError:  # a model brings its own configuration
        return True
    return False


_WIRE = {
    "integer": "int",
    "string": "string",
    "boolean": "boolean",
    "number": "double",
    "array": "array",
    "object": "struct",
}


def _wire_type(adapter: TypeAdapter[Any]) -> str:
    schema = adapter.json_schema()
    for choice in (schema, *schema.get("anyOf", ())):
        if "$ref" in choice:
            return "struct"
        if choice.get("type") in _WIRE:
            return _WIRE[choice["type"]]
    return "string"


def lookup(name: str) -> Method | None:
    """The method that is served as `name`, canonical or alias."""
    return _NAMES.get(name)


def every() -> list[Method]:
    """All methods, by canonical name."""
    return [_TABLE[name] for name in sorted(_TABLE)]


def names() -> list[str]:
    """All names that are served, aliases included."""
    return sorted(_NAMES)
