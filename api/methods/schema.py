"""The structs that parameters take, read from the models: key, type, mandatory, default."""

from collections.abc import Mapping
from typing import Any

from api.methods.table import Parameter


def struct(schema: dict[str, Any]) -> dict[str, Any]:
    """The struct among a parameter's JSON schemas; empty when it takes none."""
    choice: dict[str, Any]
    for choice in (schema, *schema.get("anyOf", ())):
        if "$ref" in choice:
            found: dict[str, Any] = schema.get("$defs", {})[choice["$ref"].rsplit("/", 1)[-1]]
            return found
        if choice.get("type") == "object":
            return choice
    return {}


def keys_of(parameter: Parameter) -> dict[str, Mapping[str, Any]]:
    """The keys of the struct that `parameter` takes, each with `mandatory` and `default`."""
    found = struct(parameter.adapter.json_schema(by_alias=True))
    mandatory = found.get("required", ())
    return {
        key: {"mandatory": key in mandatory, "default": schema.get("default")}
        for key, schema in found.get("properties", {}).items()
    }
