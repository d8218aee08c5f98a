"""Where a method takes values, read from the schema of its parameters: a new one needs no naming."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from api.methods.ids import KIND
from api.methods.table import Method, lookup

DRY_RUN = "--dry-run"

# values of mandatory keys and arguments that name no object, by their names
SAMPLES: dict[str, Any] = {
    "bandwidth": 1024.0,
    "end": "2026-01-01 01:00:00",
    "finalize_migration": False,
    "kernel_version": "raw",
    "name": "sample",
    "query": "vif.bytes.all",
    "resource_type": "vm",
    "reverse": "a.example",
    "sampler": {"unit": "hours", "value": 1, "function": "max"},
    "start": "2026-01-01 00:00:00",
    "value": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
}


@dataclass(frozen=True)
class Place:
    """One place for an integer or a text in the arguments of a method.

    `path` begins with the number of the argument, keys of structs follow. `kind` is the kind of object that
    is declared for an id; `many` says that it is an array's item.
    """

    path: tuple[int | str, ...]
    type: str
    kind: str | None
    many: bool

    def __str__(self) -> str:
        return ".".join(str(one) for one in self.path)


def places(entry: Method) -> list[Place]:
    """All places of the method for integers and texts, however deep."""
    return [
        place
        for number in range(len(entry.parameters))
        for place in _places((number,), *_schema(entry.name, number), many=False)
    ]


def arguments(entry: Method, own: Mapping[str, Any], given: Mapping[Place, Any], dry_run: bool) -> list[Any]:
    """Arguments with the values `given`; what else is mandatory is one's `own` by its kind, or a sample."""
    made: list[Any] = []
    for number, parameter in enumerate(entry.parameters):
        inside = {place: value for place, value in given.items() if place.path[0] == number}
        schema, definitions = _schema(entry.name, number)
        if not parameter.mandatory and not inside and not (dry_run and _struct(schema, definitions)):
            made.append(None)
            continue
        value = _value(parameter.name, schema, definitions, own)
        for place, wanted in inside.items():
            value = _put(value, place.path[1:], wanted)
        if dry_run and isinstance(value, dict):
            value[DRY_RUN] = True
        made.append(value)
    return made


@cache
def _schema(name: str, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    entry = lookup(name)
    assert entry is not None
    schema = entry.parameters[number].adapter.json_schema(by_alias=True)
    return schema, schema.get("$defs", {})


def _choices(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "$ref" in schema:
        yield from _choices(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
        return
    for key in ("anyOf", "oneOf", "allOf"):
        for choice in schema.get(key, ()):
            yield from _choices(choice, definitions)
    if "type" in schema:
        yield schema


def _places(
    path: tuple[int | str, ...], schema: dict[str, Any], definitions: dict[str, Any], many: bool
) -> Iterator[Place]:
    for choice in _choices(schema, definitions):
        if choice["type"] in ("integer", "string"):
            yield Place(path, choice["type"], choice.get(KIND), many)
        elif choice["type"] == "array":
            yield from _places(path, choice.get("items", {}), definitions, many=True)
        elif choice["type"] == "object":
            for key, inner in choice.get("properties", {}).items():
                yield from _places((*path, key), inner, definitions, many=many)


def _struct(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any] | None:
    return next((one for one in _choices(schema, definitions) if one["type"] == "object"), None)


def _value(name: str, schema: dict[str, Any], definitions: dict[str, Any], own: Mapping[str, Any]) -> Any:
    """A value that the schema allows, and the method as far as it can."""
    for choice in _choices(schema, definitions):
        if KIND in choice:
            return own[choice[KIND]]
        if choice["type"] == "array" and KIND in choice.get("items", {}):
            return [own[choice["items"][KIND]]]
    if name in SAMPLES:
        return SAMPLES[name]
    struct = _struct(schema, definitions)
    assert struct is not None, f"give a sample for {name!r}: {schema}"
    mandatory = struct.get("required", ())
    return {key: _value(key, struct["properties"][key], definitions, own) for key in mandatory}


def _put(value: Any, path: tuple[int | str, ...], wanted: Any) -> Any:
    if not path:
        return wanted
    return {**value, path[0]: _put(value.get(path[0], {}), path[1:], wanted)}
