"""Done, differs or absent: by the method table and what was seen."""

from typing import Any

import pytest

from api.coverage.judge import Reasons, Status, Verdict
from api.coverage.recording import Recording, Seen
from api.coverage.reference import Field, Method, Namespace, Reference
from api.coverage.verdict import Coverage

DONE = Verdict(Status.DONE)


def judged(
    kind: str, *types: str, items: set[str] | None = None, reasons: Reasons | None = None, **more: Any
) -> Verdict:
    """The verdict on the field `name` of an answer of hosting.vm.info that was seen with these types."""
    answer = {"": {"struct"}, "id": {"int"}} | ({"name": set(types)} if types else {})
    if items:
        answer["name[]"] = items
    field = Field("name", kind, **more)
    info = Method("hosting.vm.info", (Field("vm_id", "int", mandatory=True),), "Thing", "vm.info", "")
    known = Reference((Namespace("hosting.vm", (info,), {}, {"Thing": (field,)}, {}),))
    recording = Recording({"hosting.vm.info": Seen(answer=answer)})
    return Coverage(known, recording, reasons or Reasons()).field("Thing", field)


@pytest.mark.parametrize(
    ("kind", "types", "items", "verdict"),
    [
        ("string", ["string"], None, DONE),
        ("string", ["string", "nil"], None, DONE),
        ("string", ["string", "empty"], None, DONE),
        ("int or string", ["int"], None, DONE),
        ("array of int", ["array"], {"int"}, DONE),
        ("Other", ["struct"], None, DONE),
        ("any", ["int"], None, DONE),
        ("string", [], None, Verdict(Status.ABSENT)),
        ("any", [], None, Verdict(Status.ABSENT)),
        ("string", ["int"], None, Verdict(Status.DIFFERS, ("int here",))),
        ("string", ["int", "string"], None, Verdict(Status.DIFFERS, ("int here",))),
        ("string", ["nil"], None, Verdict(Status.DIFFERS, ("only seen nil",))),
        ("string or nil", ["nil"], None, Verdict(Status.DONE)),
        ("string or nil", ["int", "nil"], None, Verdict(Status.DIFFERS, ("int here",))),
        ("string", ["empty"], None, Verdict(Status.DIFFERS, ("only seen empty",))),
        ("int", ["empty"], None, Verdict(Status.DIFFERS, ("only seen empty",))),
        ("array of int", ["array"], None, Verdict(Status.DIFFERS, ("only seen empty",))),
        ("array of int", ["array"], {"string"}, Verdict(Status.DIFFERS, ("in the array, string here",))),
        ("struct", ["array"], {"int"}, Verdict(Status.DIFFERS, ("array here",))),
        ("boolean", ["int"], None, Verdict(Status.DIFFERS, ("int here",))),
    ],
)
def test_field(kind: str, types: list[str], items: set[str] | None, verdict: Verdict) -> None:
    assert judged(kind, *types, items=items) == verdict


def test_a_field_that_another_method_returns() -> None:
    assert judged("string", "string", only=("hosting.vm.list",)) == Verdict(Status.ABSENT)


def test_reasons() -> None:
    both = Reasons(differs={"Thing.name": "meant otherwise"}, why={"Thing.name": "because"})
    assert judged("string", "string", reasons=both) == Verdict(Status.DIFFERS, ("meant otherwise",))
    assert judged("string", "int", reasons=both) == Verdict(Status.DIFFERS, ("int here", "because"))
    assert judged("string", reasons=both) == Verdict(Status.ABSENT)
    remark = Reasons(remark={"Thing.name": "by the way"})
    assert judged("string", "string", reasons=remark) == Verdict(Status.DONE, ("by the way",))
    assert judged("string", "int", reasons=remark) == Verdict(Status.DIFFERS, ("int here",))


def test_a_field_that_one_of_two_answers_lacks() -> None:
    field = Field("name", "string")
    methods = tuple(Method(name, (), "Thing", "", "") for name in ("hosting.vm.info", "hosting.disk.info"))
    known = Reference((Namespace("hosting.vm", methods, {}, {"Thing": (field,)}, {}),))
    recording = Recording(
        {
            "hosting.vm.info": Seen(answer={"": {"struct"}, "name": {"string"}}),
            "hosting.disk.info": Seen(answer={"": {"struct"}}),
        }
    )
    found = Coverage(known, recording, Reasons()).field("Thing", field)
    assert found == Verdict(Status.DIFFERS, ("not in the answer of hosting.disk.info",))


def update(seen: Seen, *keys: Field) -> Coverage:
    """hosting.vm.update with these keys in its struct."""
    takes = (Field("vm_id", "int", mandatory=True), Field("update_spec", "Spec", mandatory=True))
    method = Method("hosting.vm.update", takes, "OperationReturn", "vm.update", "")
    known = Reference((Namespace("hosting.vm", (method,), {"Spec": keys}, {"OperationReturn": ()}, {}),))
    return Coverage(known, Recording({"hosting.vm.update": seen}), Reasons())


@pytest.mark.parametrize(
    ("key", "types", "verdict"),
    [
        (Field("cores", "int"), {"int"}, DONE),
        (Field("cores", "int"), {"int", "nil"}, DONE),
        (Field("cores", "int or string"), {"int"}, Verdict(Status.DONE, ("string not tested",))),
        (Field("cores", "int"), set(), Verdict(Status.ABSENT, ("taken, but tested nowhere",))),
        (Field("cores", "int"), {"nil"}, Verdict(Status.ABSENT, ("taken, but tested nowhere",))),
        (Field("cores", "string"), {"int"}, Verdict(Status.ABSENT, ("tested as int only",))),
        (Field("cores", "int", mandatory=True), {"int"}, Verdict(Status.DIFFERS, ("not mandatory here",))),
        (Field("cores", "int", default=1), {"int"}, Verdict(Status.DIFFERS, ("default None here",))),
        # the table has no such key, whatever a test may have seen
        (Field("colour", "int"), {"int"}, Verdict(Status.ABSENT, ("refused",))),
    ],
)
def test_key(key: Field, types: set[str], verdict: Verdict) -> None:
    path = f"update_spec.{key.name}"
    seen = Seen(parameters={path: types} if types else {}, carried={path})
    assert update(seen, key).key("Spec", key) == verdict


def test_a_key_whose_operation_nobody_waited_for() -> None:
    key = Field("cores", "int")
    found = update(Seen(parameters={"update_spec.cores": {"int"}}), key).key("Spec", key)
    assert found == Verdict(Status.DONE, ("accepted, but no test saw the operation end in DONE",))


@pytest.mark.parametrize(
    ("name", "takes", "returns", "seen", "verdict"),
    [
        ("hosting.vm.stop", ["vm_id"], "struct", {"": {"struct"}}, DONE),
        (
            "hosting.vm.stop",
            ["vm_id"],
            "struct",
            {},
            Verdict(Status.ABSENT, ("in the table, but no test has had an answer",)),
        ),
        ("hosting.vm.stop", ["vm_id"], "int", {"": {"struct"}}, Verdict(Status.DIFFERS, ("struct here",))),
        ("hosting.vm.stop", [], "struct", {"": {"struct"}}, Verdict(Status.DIFFERS, ("takes vm_id",))),
        ("hosting.vm.explode", ["vm_id"], "struct", {"": {"struct"}}, Verdict(Status.ABSENT)),
    ],
)
def test_method(
    name: str, takes: list[str], returns: str, seen: dict[str, set[str]], verdict: Verdict
) -> None:
    method = Method(name, tuple(Field(one, "int", mandatory=True) for one in takes), returns, "", "")
    known = Reference((Namespace("hosting.vm", (method,), {}, {}, {}),))
    assert Coverage(known, Recording({name: Seen(answer=seen)}), Reasons()).method(method) == verdict


def test_a_method_without_its_alias() -> None:
    method = Method("version.info", (), "struct", "v.info", "")
    known = Reference((Namespace("version", (method,), {}, {}, {}),))
    recording = Recording({"version.info": Seen(answer={"": {"struct"}})})
    found = Coverage(known, recording, Reasons()).method(method)
    assert found == Verdict(Status.DIFFERS, ("not served as v.info",))
