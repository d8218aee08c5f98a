"""The namespace ``system``: what the service can be asked, for people and programs that look around.

These methods take no API key.
"""

from typing import Any

from api.methods.call import Call
from api.methods.faults import unknown_method
from api.methods.parameters import Text
from api.methods.schema import struct
from api.methods.table import Method, Parameter, lookup, method, names


@method("system.listMethods", returns="array", takes_key=False, changes=False)
def list_methods(_call: Call) -> list[str]:
    """List the names of all methods, aliases included."""
    return names()


@method("system.methodSignature", returns="array", takes_key=False, changes=False)
def method_signature(_call: Call, name: Text) -> list[list[str]]:
    """Get the type that a method returns and the types that it takes, for each number of arguments."""
    return _find(name).signatures


@method("system.methodHelp", returns="string", takes_key=False, changes=False)
def method_help(_call: Call, name: Text) -> str:
    """Get what a method does, with its parameters."""
    return describe(_find(name))


def _find(name: str) -> Method:
    found = lookup(name)
    if found is None:
        raise unknown_method(name)
    return found


def describe(entry: Method) -> str:
    """The call, the text, the parameters and their keys, one a line."""
    arguments = ["apikey"] if entry.takes_key else []
    arguments += [one.name if one.mandatory else f"[{one.name}]" for one in entry.parameters]
    lines = [f"{entry.name}({', '.join(arguments)})", "", entry.help, "", "Parameters:"]
    if entry.takes_key:
        lines.append("- apikey (string)")
    for parameter in entry.parameters:
        lines += _describe_parameter(parameter)
    if lines[-1] == "Parameters:":
        lines.append("- none")
    lines += ["", f"Returns: {entry.returns}"]
    if entry.aliases:
        lines.append(f"Also served as: {', '.join(entry.aliases)}")
    return "\n".join(lines)


def _describe_parameter(parameter: Parameter) -> list[str]:
    optional = "" if parameter.mandatory else ", optional"
    schema = parameter.adapter.json_schema(by_alias=True)
    taken = struct(schema)
    keys = taken.get("properties", {}).items()
    mandatory = taken.get("required", ())
    return [
        f"- {parameter.name} ({parameter.wire_type}{optional})",
        *(
            f"    - {key} ({_type(key_schema)}{', mandatory' if key in mandatory else ''})"
            for key, key_schema in keys
        ),
    ]


_WIRE_TYPES = {
    "integer": "int",
    "number": "double",
    "boolean": "boolean",
    "string": "string",
    "object": "struct",
}


def _type(schema: dict[str, Any]) -> str:
    for choice in (schema, *schema.get("anyOf", ())):
        if choice.get("format") == "date-time":
            return "string or dateTime.iso8601"
        if choice.get("type") == "array":
            item = _type(choice.get("items", {}))
            return f"{item} or array of {item}"
        if choice.get("type") in _WIRE_TYPES:
            return _WIRE_TYPES[choice["type"]]
    return "any"
