"""Resource options: what each changes in what is done, and in which order."""

from __future__ import annotations

import pytest

from kryonix.engines.local.errors import ApplyFailed, InvalidProgramInput
from tests.unit.engines.local.conftest import Bench


def done(bench: Bench) -> list[str]:
    """What was done in the world, in order."""
    return [line for line in bench.world.log() if line.split()[0] in ("created", "updated", "deleted")]


REPLACED = """
a = Thing("a", {{"x": {x}, "key": {x}, "replaces": ["x"], "firstDelete": {first}}})
Thing("b", {{"ref": a.id, "replaces": ["ref"], "note": {x}}})
Thing("c", {{"ref": a.id}})
"""


def test_a_replacement_is_created_before_the_old_one_is_deleted(bench: Bench) -> None:
    bench.up(REPLACED.format(x=1, first=False))
    bench.world.forget_log()
    summary = bench.up(REPLACED.format(x=2, first=False))
    assert summary.changes == {"same": 1, "replace": 2, "update": 1}
    order = done(bench)
    assert order[0] == "created a-2"
    assert order.index("created b") < order.index("deleted a-1")
    assert set(bench.world.things()) == {"a-2", "b", "c"}
    assert not [name for name in bench.resources() if "(old)" in name]


def test_delete_before_replace_deletes_dependents_that_fall_with_it_first_and_makes_them_again(bench: Bench) -> None:
    bench.up(REPLACED.format(x=1, first=True))
    bench.world.forget_log()
    preview = None
    bench.program(REPLACED.format(x=2, first=True))
    preview = bench.stack().preview()
    summary = bench.stack().up()
    assert summary.changes == preview.changes == {"same": 1, "replace": 2, "update": 1}
    order = done(bench)
    assert order[:3] == ["deleted b", "deleted a-1", "created a-2"]
    assert "created b" in order
    assert "deleted c" not in order
    assert set(bench.world.things()) == {"a-2", "b", "c"}
    assert bench.stack().up().changes == {"same": 4}


def test_the_option_delete_before_replace_overrules_the_handler(bench: Bench) -> None:
    body = """
        Thing("a", {{"x": {x}, "key": {x}, "replaces": ["x"]}}, pulumi.ResourceOptions(delete_before_replace=True))
    """
    bench.up(body.format(x=1))
    bench.world.forget_log()
    bench.up(body.format(x=2))
    assert done(bench) == ["deleted a-1", "created a-2"]


def test_a_replacement_with_the_same_id_is_not_deleted_afterwards(bench: Bench) -> None:
    bench.up('Thing("a", {"x": 1, "replaces": ["x"]})')
    bench.up('Thing("a", {"x": 2, "replaces": ["x"]})')
    assert bench.world.things()["a"]["x"] == 2


def test_a_protected_resource_stops_the_run_before_anything_is_deleted(bench: Bench) -> None:
    bench.up('Thing("a", None, pulumi.ResourceOptions(protect=True)); Thing("b")')
    bench.program("")
    with pytest.raises(ApplyFailed, match="Protected against deletion: fake:index/thing:Thing 'a'"):
        bench.stack().preview()
    with pytest.raises(ApplyFailed, match="'a'"):
        bench.stack().up()
    with pytest.raises(ApplyFailed, match="'a'"):
        bench.stack().destroy()
    assert set(bench.world.things()) == {"a", "b"}


def test_a_protected_resource_is_not_replaced(bench: Bench) -> None:
    body = 'Thing("a", {{"x": {x}, "replaces": ["x"]}}, pulumi.ResourceOptions(protect=True))'
    bench.up(body.format(x=1))
    with pytest.raises(ApplyFailed, match="Protected"):
        bench.up(body.format(x=2))
    assert bench.world.things()["a"]["x"] == 1


def test_protection_is_inherited_from_the_parent_and_can_be_taken_off(bench: Bench) -> None:
    body = """
        a = Thing("a", None, pulumi.ResourceOptions(protect={protect}))
        Thing("b", None, pulumi.ResourceOptions(parent=a))
    """
    bench.up(body.format(protect=True))
    assert bench.resources()["b"]["protect"]
    bench.up(body.format(protect=False))
    assert "protect" not in bench.resources()["b"]
    bench.stack().destroy()
    assert bench.world.things() == {}


def test_what_is_deleted_with_another_gets_no_call_of_its_own(bench: Bench) -> None:
    body = """
        a = Thing("a")
        inside = pulumi.ResourceOptions(deleted_with=a)
        b = Thing("b", {"ref": a.made}, inside)
        c = Thing("c", {"ref": b.made}, inside)
        d = Thing("d", {"ref": c.made})
    """
    bench.up(body)
    bench.world.forget_log()
    assert bench.stack().destroy().changes == {"delete": 5}
    assert done(bench) == ["deleted d", "deleted a"]
    assert bench.resources() == {}


def test_what_would_be_deleted_with_one_that_stays_is_deleted_by_itself(bench: Bench) -> None:
    bench.up('a = Thing("a"); Thing("b", None, pulumi.ResourceOptions(deleted_with=a))')
    bench.world.forget_log()
    bench.up('a = Thing("a")')
    assert done(bench) == ["deleted b"]


def test_deleted_with_is_inherited_from_the_parent(bench: Bench) -> None:
    bench.up("""
        a = Thing("a")
        b = Thing("b", None, pulumi.ResourceOptions(deleted_with=a))
        Thing("c", None, pulumi.ResourceOptions(parent=b))
    """)
    assert bench.resources()["c"]["deletedWith"] == bench.resources()["a"]["urn"]


def test_depends_on_orders_creation_and_deletion(bench: Bench) -> None:
    bench.up('a = Thing("a", {"slow": 0.05}); Thing("b", None, pulumi.ResourceOptions(depends_on=[a]))')
    assert done(bench) == ["created a", "created b"]
    bench.world.forget_log()
    bench.stack().destroy()
    assert done(bench) == ["deleted b", "deleted a"]


def test_ignore_changes_keeps_all_old_inputs(bench: Bench) -> None:
    body = 'Thing("a", {{"x": {x}, "deep": {{"p": {x}}}}}, pulumi.ResourceOptions(ignore_changes=["*"]))'
    bench.up(body.format(x=1))
    assert bench.up(body.format(x=2)).changes == {"same": 2}
    made = bench.world.things()["a"]
    assert (made["x"], made["deep"]) == (1, {"p": 1})


def test_an_alias_finds_the_resource_under_its_old_name(bench: Bench) -> None:
    bench.up('a = Thing("a"); Thing("child", {"ref": a.made}, pulumi.ResourceOptions(parent=a))')
    bench.world.forget_log()
    summary = bench.up("""
        a = Thing("renamed", {"name": "a"}, pulumi.ResourceOptions(aliases=[pulumi.Alias(name="a")]))
        Thing("child", {"ref": a.made}, pulumi.ResourceOptions(parent=a))
    """)
    assert summary.changes == {"same": 3}
    assert done(bench) == []
    resources = bench.resources()
    assert "a" not in resources
    assert resources["child"]["dependencies"] == [resources["renamed"]["urn"]]


def test_moving_into_a_component_with_an_alias_changes_nothing(bench: Bench) -> None:
    bench.up('Thing("a")')
    summary = bench.up("""
        g = Group("g")
        Thing("a", None, pulumi.ResourceOptions(parent=g, aliases=[pulumi.Alias(parent=pulumi.ROOT_STACK_RESOURCE)]))
    """)
    assert summary.changes == {"same": 2, "create": 1}


def test_two_resources_can_not_claim_one_alias(bench: Bench) -> None:
    bench.up('Thing("a")')
    with pytest.raises(InvalidProgramInput, match="claims as well"):
        bench.up("""
            b = Thing("b", {"name": "a"}, pulumi.ResourceOptions(aliases=[pulumi.Alias(name="a")]))
            Thing("c", {"name": "a"}, pulumi.ResourceOptions(aliases=[pulumi.Alias(name="a")], depends_on=[b]))
        """)


def test_additional_secret_outputs_are_encrypted(bench: Bench) -> None:
    bench.up("""
        a = Thing("a", None, pulumi.ResourceOptions(additional_secret_outputs=["made"]))
        pulumi.export("made", a.made)
    """)
    assert bench.stack().outputs() == {"made": "[secret]"}
    assert "made-a" not in bench.state_text()
    assert bench.stack().up().changes == {"same": 2}


def test_an_input_that_becomes_secret_is_encrypted_without_an_update(bench: Bench) -> None:
    bench.up('Thing("a", {"x": "hunter2"})')
    assert "hunter2" in bench.state_text()
    summary = bench.up('Thing("a", {"x": pulumi.Output.secret("hunter2")})')
    assert summary.changes == {"same": 2}
    assert "hunter2" not in str(bench.resources()["a"]["inputs"])


def test_dynamic_like_resources_that_others_do_not_need_go_before_what_they_need(bench: Bench) -> None:
    bench.up('a = Thing("a"); Thing("limit", {"ref": a.made})')
    bench.world.forget_log()
    bench.up("")
    assert done(bench) == ["deleted limit", "deleted a"]
