"""The reference as data: methods, parameter structs, returned structs and enumerations.

A file ``reference/NAMESPACE.toml`` holds the tables ``methods``, ``parameters``, ``returns`` and ``values``.
A type is a type of the wire, the name of a struct, ``array of TYPE``, or several of these joined by ``or``.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter, a key of a struct of parameters, or a field of a returned struct."""

    name: str
    type: str
    mandatory: bool = False
    default: Any = None
    values: str = ""
    """The enumeration that its values are of."""
    only: tuple[str, ...] = ()
    """The methods that return it, when not all that return its struct do."""

    @property
    def alternatives(self) -> list[str]:
        """The types that it may have."""
        return self.type.split(" or ")


@dataclass(frozen=True, slots=True)
class Method:
    """A method: its parameters after the API key, and the type that it returns."""

    name: str
    takes: tuple[Field, ...]
    returns: str
    alias: str
    """The name without ``hosting.``, empty when the reference has none."""
    topic: str
    """What it is about, when that is more than the namespace."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """One file of the reference."""

    name: str
    methods: tuple[Method, ...]
    parameters: Mapping[str, tuple[Field, ...]]
    returns: Mapping[str, tuple[Field, ...]]
    values: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Reference:
    """All namespaces."""

    namespaces: tuple[Namespace, ...]

    @cached_property
    def methods(self) -> list[Method]:
        """The methods of all namespaces."""
        return [method for namespace in self.namespaces for method in namespace.methods]

    @cached_property
    def parameters(self) -> dict[str, tuple[Field, ...]]:
        """The structs of parameters of all namespaces."""
        return {name: keys for one in self.namespaces for name, keys in one.parameters.items()}

    @cached_property
    def returns(self) -> dict[str, tuple[Field, ...]]:
        """The returned structs of all namespaces."""
        return {name: fields for one in self.namespaces for name, fields in one.returns.items()}

    @cached_property
    def values(self) -> dict[str, tuple[str, ...]]:
        """The enumerations of all namespaces."""
        return {name: values for one in self.namespaces for name, values in one.values.items()}

    def enumerated(self) -> dict[str, set[str]]:
        """The values that a key of some name may have, for the names whose values are enumerated."""
        found: dict[str, set[str]] = {}
        for fields in (*self.parameters.values(), *self.returns.values()):
            for field in fields:
                if field.values:
                    found.setdefault(field.name, set()).update(self.values[field.values])
        return found

    def taken(self, struct: str) -> list[tuple[Method, int]]:
        """Where a struct of parameters is taken: method, position after the key."""
        return [
            (method, position)
            for method in self.methods
            for position, parameter in enumerate(method.takes)
            if struct in parameter.alternatives
        ]

    def returned(self, struct: str) -> list[tuple[Method, str]]:
        """Where a struct is returned: method, path in its answer."""
        return [
            (method, path)
            for method in self.methods
            for name, path in self._structs(method.name, method.returns, "")
            if name == struct
        ]

    def _structs(self, method: str, kind: str, path: str) -> Iterator[tuple[str, str]]:
        for alternative in kind.split(" or "):
            inner, at = alternative, path
            while inner.startswith("array of "):
                inner, at = inner.removeprefix("array of "), f"{at}[]"
            for field in self.returns.get(inner, ()):
                if not field.only or method in field.only:
                    yield from self._structs(method, field.type, join(at, field.name))
            if inner in self.returns:
                yield inner, at


def join(path: str, key: str) -> str:
    """The path of a struct's `key`."""
    return f"{path}.{key}" if path else key


@cache
def reference() -> Reference:
    """The reference that this package carries: ``hosting.vm`` first, then what else is under ``hosting``."""
    files = [
        file
        for file in resources.files(__package__).joinpath("reference").iterdir()
        if file.name.endswith(".toml")
    ]
    found = [_namespace(file.name.removesuffix(".toml"), tomllib.loads(file.read_text())) for file in files]
    return Reference(
        tuple(
            sorted(
                found,
                key=lambda one: (one.name != "hosting.vm", not one.name.startswith("hosting"), one.name),
            )
        )
    )


def _namespace(name: str, data: dict[str, Any]) -> Namespace:
    return Namespace(
        name,
        tuple(_method(f"{name}.{verb}", **entry) for verb, entry in data["methods"].items()),
        {struct: _fields(keys) for struct, keys in data.get("parameters", {}).items()},
        {struct: _fields(keys) for struct, keys in data.get("returns", {}).items()},
        {enumeration: tuple(values) for enumeration, values in data.get("values", {}).items()},
    )


def _method(
    name: str, returns: str, takes: tuple[str, ...] = (), *, alias: bool = True, topic: str = ""
) -> Method:
    short = name.removeprefix("hosting.")
    return Method(name, tuple(map(_taken, takes)), returns, short if alias and short != name else "", topic)


def _taken(text: str) -> Field:
    # "vm_id int", or "[opts VMListOptions]" for one that may be left out
    name, _, kind = text.strip("[]").partition(" ")
    return Field(name, kind, mandatory=not text.startswith("["))


def _fields(keys: dict[str, Any]) -> tuple[Field, ...]:
    return tuple(
        Field(name, said)
        if isinstance(said, str)
        else Field(name, **{**said, "only": tuple(said.get("only", ()))})
        for name, said in keys.items()
    )
