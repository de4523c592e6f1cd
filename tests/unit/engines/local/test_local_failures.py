"""Failures of a handler, the program or the service."""

from __future__ import annotations

import json

import pytest

from kryonix.engines.events import ResourceEvent
from kryonix.engines.local.errors import ApplyFailed, LocalError, ProgramFailed, UnsupportedResource
from kryonix.errors import Failure
from tests.support.engine_testbed import EngineTestbed


def test_a_failing_create_names_its_resource_and_keeps_the_rest(testbed: EngineTestbed) -> None:
    with pytest.raises(ApplyFailed) as caught:
        testbed.up('a = Thing("a"); Thing("b", {"ref": a.made, "fail": "create"})')
    assert str(caught.value) == "fake:index/thing:Thing 'b' could not be created: the service refused to create"
    assert caught.value.exit_status == 1
    assert set(testbed.resources()) == {"demo-dev", "default", "a"}
    assert "pending_operations" not in testbed.stack().export()["deployment"]


def test_the_next_run_continues_after_a_failure(testbed: EngineTestbed) -> None:
    with pytest.raises(ApplyFailed):
        testbed.up('a = Thing("a"); Thing("b", {"ref": a.made, "fail": "create"})')
    assert testbed.up('a = Thing("a"); Thing("b", {"ref": a.made})').changes == {"same": 2, "create": 1}


def test_running_changes_finish_after_a_failure(testbed: EngineTestbed) -> None:
    with pytest.raises(ApplyFailed):
        testbed.up("""
            Thing("bad", {"fail": "create", "after": ["create s0", "create s1", "create s2"]})
            [Thing(f"s{i}", {"slow": 0.3}) for i in range(3)]
        """)
    assert {"s0", "s1", "s2"} <= set(testbed.resources())
    assert set(testbed.service.things()) == {"s0", "s1", "s2"}


def test_after_a_failure_nothing_is_started_or_deleted(testbed: EngineTestbed) -> None:
    testbed.up('Thing("old")')
    with pytest.raises(ApplyFailed):
        testbed.up("""
            bad = Thing("bad", {"fail": "create", "after": ["create slow"]})
            slow = Thing("slow", {"slow": 1})
            Thing("after", {"ref": slow.made})
        """)
    assert set(testbed.service.things()) == {"old", "slow"}


def test_the_first_failure_is_the_one_reported(testbed: EngineTestbed) -> None:
    with pytest.raises(ApplyFailed, match="'first'"):
        testbed.up("""
            Thing("first", {"fail": "create", "after": ["create second"]})
            Thing("second", {"fail": "create", "slow": 1})
        """)


def test_a_service_that_is_down_ends_with_exit_status_3(testbed: EngineTestbed) -> None:
    with pytest.raises(ApplyFailed, match="'a' could not be created: the service is down") as caught:
        testbed.up('Thing("a", {"fail": "down"})')
    assert caught.value.exit_status == 3


def pending(testbed: EngineTestbed) -> list[tuple[str, str]]:
    """Return the pending operations of the state: operation and resource name."""
    operations = testbed.stack().export()["deployment"].get("pending_operations", [])
    return [(operation["type"], operation["resource"]["urn"].split("::")[-1]) for operation in operations]


def expect_down(testbed: EngineTestbed, body: str) -> None:
    """Assert that an `up` of the program finds the service unreachable."""
    with pytest.raises(ApplyFailed, match="the service is down") as caught:
        testbed.up(body)
    assert caught.value.exit_status == 3


def test_a_resource_is_made_once_the_program_has_the_right_address(testbed: EngineTestbed) -> None:
    expect_down(testbed, 'Thing("a", {"fail": "down"})')
    assert pending(testbed) == [("creating", "a")]
    assert testbed.up('Thing("a")').changes == {"same": 1, "create": 1}
    assert pending(testbed) == []
    testbed.stack().destroy()
    assert testbed.service.things() == {}


def test_an_unreachable_replacement_can_be_corrected_or_reverted(testbed: EngineTestbed) -> None:
    old, moved = 'Thing("a", {"key": "k1"})', 'Thing("a", {"key": "k2", "replaces": ["key"]%s})'
    testbed.up(old)
    expect_down(testbed, moved % ', "fail": "down"')
    testbed.up(moved % "")
    assert (pending(testbed), set(testbed.service.things())) == ([], {"a-k2"})
    expect_down(testbed, 'Thing("a", {"key": "k3", "replaces": ["key"], "fail": "down"})')
    testbed.up(moved % "")
    assert (pending(testbed), set(testbed.service.things())) == ([], {"a-k2"})


def test_an_unreadable_resource_is_updated_once_the_program_is_corrected(testbed: EngineTestbed) -> None:
    testbed.up('Thing("a", {"x": 1, "fail": "read"})')
    expect_down(testbed, 'Thing("a", {"x": 2, "fail": "down"})')
    assert pending(testbed) == [("updating", "a")]
    assert testbed.up('Thing("a", {"x": 2})').changes == {"same": 1, "update": 1}
    assert (pending(testbed), testbed.service.things()["a"]["x"]) == ([], 2)
    testbed.stack().destroy()
    assert testbed.service.things() == {}


@pytest.mark.parametrize("before", ["", 'Thing("a", {"x": 1})', 'Thing("a", {"x": 1, "fail": "read"})'])
def test_an_unfinished_operation_is_kept_while_the_service_is_down(testbed: EngineTestbed, before: str) -> None:
    testbed.up(before)
    for _ in range(3):
        expect_down(testbed, 'Thing("a", {"x": 2, "fail": "down"})')
        assert pending(testbed) == [("updating" if before else "creating", "a")]


def test_an_unreachable_create_is_tried_once_per_run_with_the_same_inputs(testbed: EngineTestbed) -> None:
    expect_down(testbed, 'Thing("a", {"fail": "down"})')
    testbed.service.forget_log()
    expect_down(testbed, 'Thing("a", {"fail": "down"})')
    assert [line for line in testbed.service.log() if line.startswith("create")] == ["create a"]


def test_a_reverted_update_stays_unfinished_while_unreadable(testbed: EngineTestbed) -> None:
    """Half of it may have been done."""
    testbed.up('Thing("a", {"x": 1, "fail": "read"})')
    expect_down(testbed, 'Thing("a", {"x": 2, "fail": "down"})')
    expect_down(testbed, 'Thing("a", {"x": 1, "fail": "read"})')
    assert pending(testbed) == [("updating", "a")]


def test_a_create_without_its_prerequisite_needs_new_inputs(testbed: EngineTestbed) -> None:
    for _ in range(2):
        with pytest.raises(ApplyFailed, match="no room") as caught:
            testbed.up('Thing("a", {"fail": "missing"})')
    assert caught.value.exit_status == 3
    assert testbed.up('Thing("a")').changes == {"same": 1, "create": 1}


def test_a_create_without_its_prerequisite_needs_no_call_on_destroy(testbed: EngineTestbed) -> None:
    with pytest.raises(ApplyFailed, match="no room"):
        testbed.up('Thing("a", {"fail": "missing"})')
    testbed.service.forget_log()
    testbed.stack().destroy()
    assert "create a" not in testbed.service.log()
    assert testbed.resources() == {}


def test_preview_exits_with_2_on_invalid_inputs(testbed: EngineTestbed) -> None:
    testbed.program('Thing("a", {"bad": 7})')
    with pytest.raises(LocalError, match="bad is 7") as caught:
        testbed.stack().preview()
    assert caught.value.exit_status == 2


def test_a_bug_in_a_handler_is_named(testbed: EngineTestbed) -> None:
    with pytest.raises(ApplyFailed, match="ZeroDivisionError: a bug"):
        testbed.up('Thing("a", {"fail": "bug"})')


def test_an_unknown_type_exits_with_2(testbed: EngineTestbed) -> None:
    with pytest.raises(UnsupportedResource, match="no handler for fake:index/other:Other"):
        testbed.up('pulumi.CustomResource("fake:index/other:Other", "a", {})')


def test_a_failing_delete_is_finished_by_the_next_destroy(testbed: EngineTestbed) -> None:
    testbed.up('a = Thing("a"); Thing("b", {"ref": a.made, "fail": "delete"}); Thing("c")')
    with pytest.raises(ApplyFailed, match="'b' could not be deleted"):
        testbed.stack().destroy()
    assert {"a", "b"} <= set(testbed.resources())
    testbed.up('a = Thing("a"); Thing("b", {"ref": a.made}); Thing("c")')
    testbed.stack().destroy()
    assert testbed.service.things() == {}


def test_a_failing_update_is_repaired_from_the_real_state(testbed: EngineTestbed) -> None:
    testbed.up('Thing("a", {"x": 1})')
    with pytest.raises(ApplyFailed, match="'a' could not be updated"):
        testbed.up('Thing("a", {"x": 2, "fail": "update"})')
    testbed.service.put("a", {"name": "a", "size": 1, "x": 2})  # half of it had been done
    assert testbed.up('Thing("a", {"x": 1})').changes == {"same": 1, "update": 1}
    assert testbed.service.things()["a"]["x"] == 1


def test_a_bug_in_the_program_is_named(testbed: EngineTestbed) -> None:
    with pytest.raises(ProgramFailed, match="KeyError: 'nothing'") as caught:
        testbed.up('Thing("a")\ndef deep():\n    return {}["nothing"]\ndeep()')
    assert caught.value.exit_status == 1
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_run_error_of_the_program_is_a_message_without_traceback(testbed: EngineTestbed) -> None:
    with pytest.raises(ProgramFailed) as caught:
        testbed.up('raise pulumi.RunError("no such tenant")')
    assert (str(caught.value), caught.value.exit_status) == ("no such tenant", 1)


@pytest.mark.parametrize(
    "body",
    [
        'raise Refused("queues hold messages")',
        'try:\n    raise Refused("queues hold messages")\nexcept Refused as e:\n    raise ValueError("x") from e',
        'Thing("a", {"ref": pulumi.Output.from_input(1).apply(refuse)})',
        'pulumi.export("x", pulumi.Output.from_input(1).apply(refuse))',
    ],
    ids=["raised", "as a cause", "in an apply", "in an output"],
)
def test_the_exit_status_of_the_programs_exception_is_kept(testbed: EngineTestbed, body: str) -> None:
    head = "from components.errors import ComponentError as Refused\n"
    head += 'def refuse(_):\n    raise Refused("queues hold messages")\n'
    with pytest.raises(ProgramFailed) as caught:
        testbed.up(head + body)
    assert (str(caught.value), caught.value.exit_status) == ("queues hold messages", 2)
    assert caught.value.failure == Failure(kind="refused", exit_status=2)
    assert testbed.service.things() == {}


def test_a_failing_program_keeps_the_last_outputs(testbed: EngineTestbed) -> None:
    testbed.up('pulumi.export("x", 1)')
    with pytest.raises(ProgramFailed):
        testbed.up('raise pulumi.RunError("no")')
    assert testbed.stack().outputs() == {"x": 1}


def test_a_program_that_calls_sys_exit_deletes_nothing(testbed: EngineTestbed) -> None:
    testbed.up('Thing("a")')
    with pytest.raises(ProgramFailed, match=r"sys\.exit"):
        testbed.up("import sys; sys.exit(0)")
    assert "a" in testbed.service.things()


def test_failed_changes_are_reported_as_events(testbed: EngineTestbed) -> None:
    with pytest.raises(ApplyFailed):
        testbed.up('Thing("a", {"fail": "create"})')
    failed = [e for e in testbed.events if isinstance(e, ResourceEvent) and e.status == "failed"]
    assert [(e.name, e.op) for e in failed] == [("a", "create")]
    assert "the service refused" in failed[0].error


def test_a_component_stays_as_long_as_children_deleted_with_another(testbed: EngineTestbed) -> None:
    testbed.up("""
        a = Thing("a")
        group = Group("group")
        Thing("child", None, pulumi.ResourceOptions(parent=group, deleted_with=a))
        Thing("held", {"ref": a.made, "fail": "delete", "slow": 0.2})
    """)
    before = set(testbed.resources())
    with pytest.raises(ApplyFailed, match="'held' could not be deleted"):
        testbed.stack().destroy()
    assert set(testbed.resources()) == before


SERVER_WITH_ROLES = """
    volume = Thing("volume")
    container = Thing("container", {"ref": volume.made})
    group = Group("group", pulumi.ResourceOptions(depends_on=[container]))
    server = Provider("server", {"host": container.made}, pulumi.ResourceOptions(parent=group))
    Thing("role", None, pulumi.ResourceOptions(parent=group, provider=server, deleted_with=volume))
"""
HELD = 'Thing("held", {"ref": volume.made, "fail": "delete", "after": ["deleted container"]})'


def test_a_provider_stays_as_long_as_resources_deleted_with_another(testbed: EngineTestbed) -> None:
    testbed.service.note("deleted container")  # creating does not wait for it
    testbed.up(SERVER_WITH_ROLES + "    " + HELD)
    testbed.service.forget_log()
    with pytest.raises(ApplyFailed, match="'held' could not be deleted"):
        testbed.stack().destroy()
    left = testbed.resources()
    assert "container" not in left
    assert left["role"]["provider"] == f"{left['server']['urn']}::{left['server']['id']}"


def test_a_state_that_lacks_a_provider_is_exported_and_destroyed(testbed: EngineTestbed) -> None:
    testbed.up(SERVER_WITH_ROLES)
    checkpoint = testbed.folder / ".kryonix" / "stacks" / "dev" / "checkpoint.json"
    document = json.loads(checkpoint.read_text())
    document["deployment"]["resources"] = [
        each for each in document["deployment"]["resources"] if not each["urn"].endswith("::server")
    ]
    checkpoint.write_text(json.dumps(document))
    assert "role" in testbed.resources()
    testbed.stack().destroy()
    assert testbed.resources() == {}
