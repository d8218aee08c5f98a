"""The reference as data holds together."""

from itertools import chain

from api.coverage.page import reasons
from api.coverage.reference import reference

KNOWN = reference()
WIRE = {"int", "string", "boolean", "double", "dateTime.iso8601", "struct", "nil", "any"}
STRUCTS = {**KNOWN.parameters, **KNOWN.returns}
KEYS = [(struct, field) for struct, fields in STRUCTS.items() for field in fields]


def bare(kind: str) -> set[str]:
    """What a type is made of, without its arrays."""
    return {one.removeprefix("array of ").removeprefix("array of ") for one in kind.split(" or ")}


def test_a_key_names_what_there_is() -> None:
    for struct, field in KEYS:
        assert bare(field.type) <= WIRE | set(STRUCTS), (struct, field)
        assert not field.values or field.values in KNOWN.values, (struct, field)
        assert set(field.only) <= {method.name for method in KNOWN.methods}, (struct, field)


def test_methods_name_structs_that_there_are_and_no_struct_is_left_over() -> None:
    named = set(chain.from_iterable(bare(method.returns) for method in KNOWN.methods))
    named |= set(chain.from_iterable(bare(one.type) for method in KNOWN.methods for one in method.takes))
    assert named <= WIRE | set(STRUCTS)
    inner = set(chain.from_iterable(bare(field.type) for _, field in KEYS))
    assert set(STRUCTS) <= named | inner


def test_the_vm_has_what_the_reference_page_has() -> None:
    vm = KNOWN.namespaces[0]
    assert (vm.name, len(vm.methods), len(vm.parameters), len(vm.returns)) == ("hosting.vm", 17, 7, 5)
    assert [method.name for method in vm.methods if not method.alias] == ["hosting.vm.can_migrate"]


def test_reasons_are_about_keys_that_there_are() -> None:
    known = {f"{struct}.{field.name}" for struct, field in KEYS} | {one.name for one in KNOWN.methods}
    assert {*reasons().remark, *reasons().differs, *reasons().why} <= known


def test_where_a_struct_is_returned() -> None:
    assert [(method.name, path) for method, path in KNOWN.returned("VMGraphURLs")] == [
        ("hosting.vm.info", "graph_urls")
    ]
    assert ("hosting.vm.info", "ifaces[].ips[]") in [
        (method.name, path) for method, path in KNOWN.returned("IPReturn")
    ]
