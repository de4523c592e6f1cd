"""Resource options and their effect on operations and order."""

from __future__ import annotations

import pytest

from kryonix.engines.local.errors import ApplyFailed, InvalidProgramInput
from tests.support.engine_testbed import EngineTestbed


def done(testbed: EngineTestbed) -> list[str]:
    """Return the service's operations in order."""
    return [line for line in testbed.service.log() if line.split()[0] in ("created", "updated", "deleted")]


REPLACED = """
a = Thing("a", {{"x": {x}, "key": {x}, "replaces": ["x"], "firstDelete": {first}}})
Thing("b", {{"ref": a.id, "replaces": ["ref"], "note": {x}}})
Thing("c", {{"ref": a.id}})
"""


def test_a_replacement_is_created_before_the_old_one_is_deleted(testbed: EngineTestbed) -> None:
    testbed.up(REPLACED.format(x=1, first=False))
    testbed.service.forget_log()
    summary = testbed.up(REPLACED.format(x=2, first=False))
    assert summary.changes == {"same": 1, "replace": 2, "update": 1}
    order = done(testbed)
    assert order[0] == "created a-2"
    assert order.index("created b") < order.index("deleted a-1")
    assert set(testbed.service.things()) == {"a-2", "b", "c"}
    assert not [name for name in testbed.resources() if "(old)" in name]


def test_delete_before_replace_recreates_dependents(
    testbed: EngineTestbed,
) -> None:
    testbed.up(REPLACED.format(x=1, first=True))
    testbed.service.forget_log()
    preview = None
    testbed.program(REPLACED.format(x=2, first=True))
    preview = testbed.stack().preview()
    summary = testbed.stack().up()
    assert summary.changes == preview.changes == {"same": 1, "replace": 2, "update": 1}
    order = done(testbed)
    assert order[:3] == ["deleted b", "deleted a-1", "created a-2"]
    assert "created b" in order
    assert "deleted c" not in order
    assert set(testbed.service.things()) == {"a-2", "b", "c"}
    assert testbed.stack().up().changes == {"same": 4}


def test_the_option_delete_before_replace_overrides_the_handler(testbed: EngineTestbed) -> None:
    body = """
        Thing("a", {{"x": {x}, "key": {x}, "replaces": ["x"]}}, pulumi.ResourceOptions(delete_before_replace=True))
    """
    testbed.up(body.format(x=1))
    testbed.service.forget_log()
    testbed.up(body.format(x=2))
    assert done(testbed) == ["deleted a-1", "created a-2"]


def test_a_replacement_with_the_same_id_is_not_deleted_afterwards(testbed: EngineTestbed) -> None:
    testbed.up('Thing("a", {"x": 1, "replaces": ["x"]})')
    testbed.up('Thing("a", {"x": 2, "replaces": ["x"]})')
    assert testbed.service.things()["a"]["x"] == 2


def test_a_protected_resource_stops_the_run_before_anything_is_deleted(testbed: EngineTestbed) -> None:
    testbed.up('Thing("a", None, pulumi.ResourceOptions(protect=True)); Thing("b")')
    testbed.program("")
    with pytest.raises(ApplyFailed, match="Protected against deletion: fake:index/thing:Thing 'a'"):
        testbed.stack().preview()
    with pytest.raises(ApplyFailed, match="'a'"):
        testbed.stack().up()
    with pytest.raises(ApplyFailed, match="'a'"):
        testbed.stack().destroy()
    assert set(testbed.service.things()) == {"a", "b"}


def test_a_protected_resource_is_not_replaced(testbed: EngineTestbed) -> None:
    body = 'Thing("a", {{"x": {x}, "replaces": ["x"]}}, pulumi.ResourceOptions(protect=True))'
    testbed.up(body.format(x=1))
    with pytest.raises(ApplyFailed, match="Protected"):
        testbed.up(body.format(x=2))
    assert testbed.service.things()["a"]["x"] == 1


def test_protection_is_inherited_and_can_be_removed(testbed: EngineTestbed) -> None:
    body = """
        a = Thing("a", None, pulumi.ResourceOptions(protect={protect}))
        Thing("b", None, pulumi.ResourceOptions(parent=a))
    """
    testbed.up(body.format(protect=True))
    assert testbed.resources()["b"]["protect"]
    testbed.up(body.format(protect=False))
    assert "protect" not in testbed.resources()["b"]
    testbed.stack().destroy()
    assert testbed.service.things() == {}


def test_a_resource_deleted_with_another_gets_no_delete_call(testbed: EngineTestbed) -> None:
    body = """
        a = Thing("a")
        inside = pulumi.ResourceOptions(deleted_with=a)
        b = Thing("b", {"ref": a.made}, inside)
        c = Thing("c", {"ref": b.made}, inside)
        d = Thing("d", {"ref": c.made})
    """
    testbed.up(body)
    testbed.service.forget_log()
    assert testbed.stack().destroy().changes == {"delete": 5}
    assert done(testbed) == ["deleted d", "deleted a"]
    assert testbed.resources() == {}


def test_deleted_with_a_remaining_resource_means_an_own_delete_call(testbed: EngineTestbed) -> None:
    testbed.up('a = Thing("a"); Thing("b", None, pulumi.ResourceOptions(deleted_with=a))')
    testbed.service.forget_log()
    testbed.up('a = Thing("a")')
    assert done(testbed) == ["deleted b"]


def test_deleted_with_is_inherited_from_the_parent(testbed: EngineTestbed) -> None:
    testbed.up("""
        a = Thing("a")
        b = Thing("b", None, pulumi.ResourceOptions(deleted_with=a))
        Thing("c", None, pulumi.ResourceOptions(parent=b))
    """)
    assert testbed.resources()["c"]["deletedWith"] == testbed.resources()["a"]["urn"]


def test_depends_on_orders_creation_and_deletion(testbed: EngineTestbed) -> None:
    testbed.up('a = Thing("a", {"slow": 0.05}); Thing("b", None, pulumi.ResourceOptions(depends_on=[a]))')
    assert done(testbed) == ["created a", "created b"]
    testbed.service.forget_log()
    testbed.stack().destroy()
    assert done(testbed) == ["deleted b", "deleted a"]


def test_ignore_changes_keeps_all_old_inputs(testbed: EngineTestbed) -> None:
    body = 'Thing("a", {{"x": {x}, "deep": {{"p": {x}}}}}, pulumi.ResourceOptions(ignore_changes=["*"]))'
    testbed.up(body.format(x=1))
    assert testbed.up(body.format(x=2)).changes == {"same": 2}
    made = testbed.service.things()["a"]
    assert (made["x"], made["deep"]) == (1, {"p": 1})


def test_an_alias_finds_the_resource_under_its_old_name(testbed: EngineTestbed) -> None:
    testbed.up('a = Thing("a"); Thing("child", {"ref": a.made}, pulumi.ResourceOptions(parent=a))')
    testbed.service.forget_log()
    summary = testbed.up("""
        a = Thing("renamed", {"name": "a"}, pulumi.ResourceOptions(aliases=[pulumi.Alias(name="a")]))
        Thing("child", {"ref": a.made}, pulumi.ResourceOptions(parent=a))
    """)
    assert summary.changes == {"same": 3}
    assert done(testbed) == []
    resources = testbed.resources()
    assert "a" not in resources
    assert resources["child"]["dependencies"] == [resources["renamed"]["urn"]]


def test_moving_into_a_component_with_an_alias_changes_nothing(testbed: EngineTestbed) -> None:
    testbed.up('Thing("a")')
    summary = testbed.up("""
        g = Group("g")
        Thing("a", None, pulumi.ResourceOptions(parent=g, aliases=[pulumi.Alias(parent=pulumi.ROOT_STACK_RESOURCE)]))
    """)
    assert summary.changes == {"same": 2, "create": 1}


def test_children_named_after_a_renamed_component_keep_their_state(testbed: EngineTestbed) -> None:
    body = """
        g = Group("{name}", pulumi.ResourceOptions(aliases={aliases}))
        Thing("{name}-a", {{"name": "a"}}, pulumi.ResourceOptions(parent=g))
        Thing("own", None, pulumi.ResourceOptions(parent=g))
    """
    testbed.up(body.format(name="old", aliases=None))
    testbed.service.forget_log()
    renamed = body.format(name="top-new", aliases='[pulumi.Alias(name="old")]')
    assert testbed.up(renamed).changes == {"same": 4}
    assert done(testbed) == []
    assert testbed.up(renamed).changes == {"same": 4}


def test_two_resources_cannot_claim_one_alias(testbed: EngineTestbed) -> None:
    testbed.up('Thing("a")')
    with pytest.raises(InvalidProgramInput, match="claims as well"):
        testbed.up("""
            b = Thing("b", {"name": "a"}, pulumi.ResourceOptions(aliases=[pulumi.Alias(name="a")]))
            Thing("c", {"name": "a"}, pulumi.ResourceOptions(aliases=[pulumi.Alias(name="a")], depends_on=[b]))
        """)


def test_additional_secret_outputs_are_encrypted(testbed: EngineTestbed) -> None:
    testbed.up("""
        a = Thing("a", None, pulumi.ResourceOptions(additional_secret_outputs=["made"]))
        pulumi.export("made", a.made)
    """)
    assert testbed.stack().outputs() == {"made": "[secret]"}
    assert "made-a" not in testbed.state_text()
    assert testbed.stack().up().changes == {"same": 2}


def test_an_input_that_becomes_secret_is_encrypted_without_an_update(testbed: EngineTestbed) -> None:
    testbed.up('Thing("a", {"x": "hunter2"})')
    assert "hunter2" in testbed.state_text()
    summary = testbed.up('Thing("a", {"x": pulumi.Output.secret("hunter2")})')
    assert summary.changes == {"same": 2}
    assert "hunter2" not in str(testbed.resources()["a"]["inputs"])


def test_resources_are_deleted_before_their_dependencies(testbed: EngineTestbed) -> None:
    testbed.up('a = Thing("a"); Thing("limit", {"ref": a.made})')
    testbed.service.forget_log()
    testbed.up("")
    assert done(testbed) == ["deleted limit", "deleted a"]
