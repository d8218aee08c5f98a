"""``system.*``: the table shown to clients, without an API key."""

from typing import Any

import pytest

from api.methods import table
from api.methods.faults import Fault
from tests.coverage.recorder import RECORDER
from tests.methods.world import World

WIRE_TYPES = {"int", "string", "boolean", "double", "array", "struct"}


def ask(world: World, name: str, *arguments: Any) -> Any:
    """The answer to a call without a key."""
    return RECORDER.watched(name, arguments, lambda: world.dispatch(name, arguments, "192.0.2.1"))


def test_every_name_is_listed(world: World) -> None:
    names = ask(world, "system.listMethods")
    assert names == sorted(names)
    assert {"hosting.ip.list", "ip.list", "operation.info", "version.info", "system.listMethods"} <= set(
        names
    )
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", table.names())
def test_every_method_explains_itself(world: World, name: str) -> None:
    entry = table.lookup(name)
    assert entry is not None
    text = ask(world, "system.methodHelp", name)
    assert text.startswith(f"{entry.name}(")
    assert entry.help.splitlines()[0] in text
    for parameter in entry.parameters:
        assert f"- {parameter.name} (" in text
    signatures = ask(world, "system.methodSignature", name)
    assert signatures
    for signature in signatures:
        assert set(signature) <= WIRE_TYPES
        assert signature[0] == entry.returns
        assert signature[1:2] == ["string"] or not entry.takes_key


def test_help_names_the_keys_of_structs(world: World) -> None:
    assert ask(world, "system.methodHelp", "ip.update") == (
        "hosting.ip.update(apikey, ip_id, ip_spec)\n"
        "\n"
        "Change the reverse name of an IP address. Returns an ip_update operation.\n"
        "\n"
        "Parameters:\n"
        "- apikey (string)\n"
        "- ip_id (int)\n"
        "- ip_spec (struct)\n"
        "    - reverse (string, mandatory)\n"
        "\n"
        "Returns: struct\n"
        "Also served as: ip.update"
    )
    listing = ask(world, "system.methodHelp", "operation.list")
    assert "operation.list(apikey, [opts])" in listing
    assert "    - step (string or array of string)\n" in listing
    assert "    - <date_created (string or dateTime.iso8601)\n" in listing
    assert "    - disk.name (string or array of string)\n" in listing


def test_signatures_have_one_line_for_each_number_of_arguments(world: World) -> None:
    assert ask(world, "system.methodSignature", "hosting.ip.list") == [
        ["array", "string"],
        ["array", "string", "struct"],
    ]
    assert ask(world, "system.methodSignature", "hosting.ip.update") == [
        ["struct", "string", "int", "struct"]
    ]
    assert ask(world, "system.methodSignature", "system.methodHelp") == [["string", "string"]]


@pytest.mark.parametrize("name", ["system.methodHelp", "system.methodSignature"])
def test_unknown_name(world: World, name: str) -> None:
    with pytest.raises(Fault) as caught:
        ask(world, name, "domain.list")
    assert (caught.value.code, caught.value.text) == (1, 'Method "domain.list" is not supported')


@pytest.mark.parametrize(("arguments", "code"), [((), 501637), ((1,), 501210), (("a", "b"), 501637)])
def test_wrong_arguments(world: World, arguments: tuple[Any, ...], code: int) -> None:
    with pytest.raises(Fault) as caught:
        ask(world, "system.methodHelp", *arguments)
    assert caught.value.code == code
    assert "API key" not in caught.value.text
