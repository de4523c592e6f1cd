"""The field table: validation, defaults and equality."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from kryonix.engines.local.handlers import UNKNOWN, Diff
from kryonix.engines.local.handlers.fields import Field, Kind, TableHandler, canonical, checked

FIELDS = {
    "name": Field(required=True, replaces=True),
    "vhost": Field(default="/", replaces=True),
    "limit": Field(kind=Kind.WHOLE),
    "flag": Field(kind=Kind.FLAG),
    "on": Field(kind=Kind.FLAG, default=True),
    "json": Field(kind=Kind.JSON),
    "map": Field(kind=Kind.TEXT_MAP),
    "list": Field(kind=Kind.TEXT_LIST),
    "set": Field(kind=Kind.TEXT_SET),
    "block": Field(kind=Kind.BLOCK, fields={"a": Field(required=True), "b": Field(default="x")}),
    "blocks": Field(
        kind=Kind.BLOCK_SET, fields={"port": Field(kind=Kind.WHOLE, required=True), "ip": Field(default="0")}
    ),
    "digits": Field(pattern=r"\d+"),
}


class Example(TableHandler):
    pulumi_type = "example:index/example:Example"
    fields = FIELDS
    constants: ClassVar[dict[str, Any]] = {"tty": False}

    def create(self, inputs: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        return "id", inputs

    def read(self, id: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> None: ...
    def delete(self, id: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> None: ...


def difference(old: dict[str, Any], new: dict[str, Any]) -> Diff:
    return Example().diff("id", old, {}, new)


def values(**inputs: Any) -> dict[str, Any]:
    found, problems = checked(FIELDS, {"name": "n", **inputs})
    assert problems == []
    return found


def problems(**inputs: Any) -> list[str]:
    return checked(FIELDS, {"name": "n", **inputs})[1]


def test_defaults_are_filled_in_at_every_depth() -> None:
    found = values(block={"a": "1"}, blocks=[{"port": 1}])
    assert found == {
        "name": "n",
        "vhost": "/",
        "on": True,
        "block": {"a": "1", "b": "x"},
        "blocks": [{"port": 1, "ip": "0"}],
    }


@pytest.mark.parametrize(
    ("name", "given", "taken"), [("limit", "7", 7), ("limit", "-1", -1), ("flag", "true", True), ("on", "false", False)]
)
def test_numbers_and_flags_may_be_written_as_text(name: str, given: Any, taken: Any) -> None:
    assert values(**{name: given})[name] == taken


def test_constants_are_added_and_a_change_of_one_is_a_difference() -> None:
    assert Example().check(None, {"name": "n"})["tty"] is False
    assert difference({"tty": True}, {"tty": False}).changed == ("tty",)


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ({"name": None}, "`name` is required"),
        ({"nmae": "x"}, "did you mean 'name'?"),
        ({"wholly-other": "x"}, "`wholly-other` is not an input of the local engine; allowed: name, vhost"),
        ({"tty": True}, "`tty` is not an input of the local engine"),
        ({"limit": "many"}, "`limit` "),
        ({"limit": 1.5}, "`limit` is 1.5; it must be a whole number"),
        ({"flag": "maybe"}, "`flag` is 'maybe'; it must be true or false"),
        ({"json": {}}, "`json` is {}; it must be a JSON object"),
        ({"digits": "x1"}, "`digits` is 'x1', which does not match"),
        ({"block": {}}, "`block.a` is required"),
        ({"blocks": [{"port": 1}, {"port": "p"}]}, "`blocks[1].port` "),
        ({"set": "text"}, "`set` is 'text'; it must be a set of texts"),
        ({"map": ["text"]}, "`map` is ['text']; it must be a map of texts"),
    ],
)
def test_a_problem_names_its_place(inputs: dict[str, Any], problem: str) -> None:
    found = problems(**inputs)
    assert len(found) == 1
    assert problem in found[0]


def test_all_problems_are_reported_at_once() -> None:
    assert len(problems(limit="x", flag=3, block={}, other=1)) == 4


def test_unknown_values_pass_at_any_depth() -> None:
    found = values(name=UNKNOWN, limit=UNKNOWN, block={"a": UNKNOWN}, list=[UNKNOWN], blocks=UNKNOWN)
    assert (found["name"], found["block"]["a"], found["list"], found["blocks"]) == (
        UNKNOWN,
        UNKNOWN,
        [UNKNOWN],
        UNKNOWN,
    )


def test_internal_keys_of_the_cli_are_ignored() -> None:
    assert "__defaults" not in values(__defaults=["name"])


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("vhost", None, "/"),
        ("on", None, True),
        ("flag", None, False),
        ("limit", None, 0),
        ("limit", 5, 5.0),
        ("list", None, []),
        ("map", {}, None),
        ("digits", "", None),
        ("json", '{"a":1,"b":[2]}', '{ "b": [2], "a": 1 }'),
        ("set", ["b", "a"], ["a", "b"]),
        ("block", {"a": "1"}, {"a": "1", "b": "x"}),
        ("blocks", [{"port": 1}, {"port": 2}], [{"port": 2, "ip": "0"}, {"port": 1}]),
    ],
)
def test_equal_values_in_different_forms_are_not_a_change(name: str, old: Any, new: Any) -> None:
    assert difference({name: old}, {name: new}).changed == ()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("on", None, False),
        ("flag", False, True),
        ("list", ["a", "b"], ["b", "a"]),
        ("set", ["a"], ["a", "b"]),
        ("json", '{"a": 1}', '{"a": "1"}'),
        ("limit", 5, UNKNOWN),
        ("set", ["a"], [UNKNOWN]),
        ("blocks", [{"port": 1}], [{"port": 2}]),
    ],
)
def test_a_difference_is_a_change(name: str, old: Any, new: Any) -> None:
    assert difference({name: old}, {name: new}).changed == (name,)


def test_only_fields_that_replace_make_a_new_resource() -> None:
    diff = difference({"name": "a", "limit": 1}, {"name": UNKNOWN, "limit": 2})
    assert (diff.changed, diff.replaces) == (("limit", "name"), ("name",))


def test_the_same_value_is_canonical_to_itself() -> None:
    for name, field in FIELDS.items():
        assert canonical(field, values().get(name)) is None or name == "name"
