"""The shape of a payload says its names and types, and nothing else."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kryonix.routing.shapes import Shapes


def shape(data: Any, key: str = "secret") -> str:
    return Shapes(key).of(data)


LEAD = {"nome": "Ana", "idade": 30, "tags": ["a"], "endereco": {"rua": "x", "numero": 1}}


def test_a_shape_is_sixteen_hexadecimal_digits() -> None:
    assert re.fullmatch(r"[0-9a-f]{16}", shape(LEAD))


def test_the_order_of_the_keys_does_not_matter() -> None:
    turned = {
        name: dict(reversed(value.items())) if isinstance(value, dict) else value
        for name, value in reversed(LEAD.items())
    }
    assert list(turned) != list(LEAD)
    assert shape(turned) == shape(LEAD)


def test_values_of_the_same_types_do_not_matter() -> None:
    other = {"nome": "Bia", "idade": 7, "tags": ["b", "c", 5], "endereco": {"rua": "", "numero": 0}}
    assert shape(other) == shape(LEAD)


OTHERS: dict[str, Any] = {
    "another name": {**{k: v for k, v in LEAD.items() if k != "nome"}, "name": "Ana"},
    "another type": {**LEAD, "idade": "30"},
    "none": {**LEAD, "idade": None},
    "a boolean": {**LEAD, "idade": True},
    "one key more": {**LEAD, "email": "x"},
    "an inner name": {**LEAD, "endereco": {"rua": "x", "cep": 1}},
    "an inner type": {**LEAD, "endereco": {"rua": "x", "numero": "1"}},
    "an empty list": {**LEAD, "tags": []},
    "another list": {**LEAD, "tags": [1]},
    "a list of it": [LEAD],
    "text": "nome",
    "nothing": None,
    "an empty object": {},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_other_names_or_types_are_another_shape(other: Any) -> None:
    assert shape(other) != shape(LEAD)


def test_all_these_shapes_differ() -> None:
    shapes = [shape(other) for other in OTHERS.values()]
    assert len(set(shapes)) == len(shapes)


def test_another_key_gives_another_shape() -> None:
    assert shape(LEAD, "one") != shape(LEAD, "other")


def test_names_below_the_third_level_are_not_looked_at() -> None:
    def nested(name: str) -> Any:
        return {"a": {"b": {"c": {name: 1}}}}

    assert shape(nested("x")) == shape(nested("y"))
    assert shape({"a": {"b": {"x": 1}}}) != shape({"a": {"b": {"y": 1}}})


def test_an_object_with_very_many_keys_is_just_an_object() -> None:
    def wide(count: int) -> Any:
        return {"rows": {str(number): 1 for number in range(count)}}

    assert shape(wide(65)) == shape(wide(10_000))
    assert shape(wide(64)) != shape(wide(65))


def test_of_very_many_keys_the_lowest_level_is_not_looked_at() -> None:
    def wide(name: str, rows: int) -> Any:
        return {f"row {number}": {name: 1, "b": {"c": 1}, "d": 1} for number in range(rows)}

    assert shape(wide("x", 60)) == shape(wide("x", 60) | {"row 3": {"b": {"other": 1}, "d": 1, "x": 1}})
    assert shape(wide("x", 60)) != shape(wide("y", 60))
    assert shape({"all": wide("x", 60), "more": wide("x", 60)}) == shape({"more": wide("y", 60), "all": wide("x", 60)})


def test_a_payload_with_very_many_keys_costs_no_memory() -> None:
    shapes = Shapes("secret")
    for number in range(20):
        shapes.of({f"{number} {place}" * 1_000: 1 for place in range(60)})
    assert not shapes._known


def test_a_value_that_looks_like_structure_is_not_one() -> None:
    assert shape({"a:int},{b": 1}) != shape({"a": 1, "b": 1})
    assert shape({"a": "[]"}) == shape({"a": "x"}) != shape({"a": []})


@pytest.mark.parametrize("data", [b"x", {1: 2}, {"a": {3: 4}}, object(), {"\ud800": 1}, (1, 2), float("nan")])
def test_any_data_has_a_shape(data: Any) -> None:
    assert len(shape(data)) == 16


def test_data_that_contains_itself_has_a_shape() -> None:
    data: dict[str, Any] = {}
    data["self"] = data
    assert len(shape(data)) == 16


def test_more_shapes_than_are_remembered_stay_the_same() -> None:
    shapes = Shapes("secret")
    first = [shapes.of({f"k{number}": 1}) for number in range(2_500)]
    assert [shapes.of({f"k{number}": 1}) for number in range(2_500)] == first
    assert len(shapes._known) <= 1_000
