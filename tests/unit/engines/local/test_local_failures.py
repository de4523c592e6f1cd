"""What happens when a handler, the program or the world fails."""

from __future__ import annotations

import pytest

from kryonix.engines.events import ResourceEvent
from kryonix.engines.local.errors import ApplyFailed, LocalError, ProgramFailed, UnsupportedResource
from tests.unit.engines.local.conftest import Bench


def test_a_failing_create_names_the_resource_and_leaves_the_rest_in_state(bench: Bench) -> None:
    with pytest.raises(ApplyFailed) as caught:
        bench.up('a = Thing("a"); Thing("b", {"ref": a.made, "fail": "create"})')
    assert str(caught.value) == "fake:index/thing:Thing 'b' could not be created: the world said no to create"
    assert caught.value.exit_status == 1
    assert set(bench.resources()) == {"demo-dev", "default", "a"}
    assert "pending_operations" not in bench.stack().export()["deployment"]


def test_the_run_after_a_failure_goes_on_where_it_stopped(bench: Bench) -> None:
    with pytest.raises(ApplyFailed):
        bench.up('a = Thing("a"); Thing("b", {"ref": a.made, "fail": "create"})')
    assert bench.up('a = Thing("a"); Thing("b", {"ref": a.made})').changes == {"same": 2, "create": 1}


def test_work_under_way_at_a_failure_ends_and_is_in_state(bench: Bench) -> None:
    with pytest.raises(ApplyFailed):
        bench.up("""
            Thing("bad", {"fail": "create", "after": ["create s0", "create s1", "create s2"]})
            [Thing(f"s{i}", {"slow": 0.3}) for i in range(3)]
        """)
    assert {"s0", "s1", "s2"} <= set(bench.resources())
    assert set(bench.world.things()) == {"s0", "s1", "s2"}


def test_after_a_failure_nothing_new_is_started_and_nothing_deleted(bench: Bench) -> None:
    bench.up('Thing("old")')
    with pytest.raises(ApplyFailed):
        bench.up("""
            bad = Thing("bad", {"fail": "create", "after": ["create slow"]})
            slow = Thing("slow", {"slow": 1})
            Thing("after", {"ref": slow.made})
        """)
    assert set(bench.world.things()) == {"old", "slow"}


def test_the_first_failure_is_the_one_reported(bench: Bench) -> None:
    with pytest.raises(ApplyFailed, match="'first'"):
        bench.up("""
            Thing("first", {"fail": "create", "after": ["create second"]})
            Thing("second", {"fail": "create", "slow": 1})
        """)


def test_a_world_that_is_down_ends_with_exit_status_3(bench: Bench) -> None:
    with pytest.raises(ApplyFailed, match="'a' could not be created: the world is down") as caught:
        bench.up('Thing("a", {"fail": "down"})')
    assert caught.value.exit_status == 3


def pending(bench: Bench) -> list[tuple[str, str]]:
    """What state says was begun and has not ended: each operation, and the resource's name."""
    operations = bench.stack().export()["deployment"].get("pending_operations", [])
    return [(operation["type"], operation["resource"]["urn"].split("::")[-1]) for operation in operations]


def expect_down(bench: Bench, body: str) -> None:
    """The world can't be reached with what the program says."""
    with pytest.raises(ApplyFailed, match="the world is down") as caught:
        bench.up(body)
    assert caught.value.exit_status == 3


def test_what_could_not_be_reached_is_made_once_the_program_says_it_rightly(bench: Bench) -> None:
    expect_down(bench, 'Thing("a", {"fail": "down"})')
    assert pending(bench) == [("creating", "a")]
    assert bench.up('Thing("a")').changes == {"same": 1, "create": 1}
    assert pending(bench) == []
    bench.stack().destroy()
    assert bench.world.things() == {}


def test_a_replacement_that_could_not_be_reached_can_be_corrected_or_taken_back(bench: Bench) -> None:
    old, moved = 'Thing("a", {"key": "k1"})', 'Thing("a", {"key": "k2", "replaces": ["key"]%s})'
    bench.up(old)
    expect_down(bench, moved % ', "fail": "down"')
    bench.up(moved % "")
    assert (pending(bench), set(bench.world.things())) == ([], {"a-k2"})
    expect_down(bench, 'Thing("a", {"key": "k3", "replaces": ["key"], "fail": "down"})')
    bench.up(moved % "")
    assert (pending(bench), set(bench.world.things())) == ([], {"a-k2"})


def test_what_can_no_longer_be_read_is_updated_once_the_program_says_it_rightly(bench: Bench) -> None:
    bench.up('Thing("a", {"x": 1, "fail": "read"})')
    expect_down(bench, 'Thing("a", {"x": 2, "fail": "down"})')
    assert pending(bench) == [("updating", "a")]
    assert bench.up('Thing("a", {"x": 2})').changes == {"same": 1, "update": 1}
    assert (pending(bench), bench.world.things()["a"]["x"]) == ([], 2)
    bench.stack().destroy()
    assert bench.world.things() == {}


@pytest.mark.parametrize("before", ["", 'Thing("a", {"x": 1})', 'Thing("a", {"x": 1, "fail": "read"})'])
def test_what_was_begun_stays_noted_as_long_as_the_world_is_down(bench: Bench, before: str) -> None:
    bench.up(before)
    for _ in range(3):
        expect_down(bench, 'Thing("a", {"x": 2, "fail": "down"})')
        assert pending(bench) == [("updating" if before else "creating", "a")]


def test_what_could_not_be_reached_is_tried_once_a_run_while_the_program_says_the_same(bench: Bench) -> None:
    expect_down(bench, 'Thing("a", {"fail": "down"})')
    bench.world.forget_log()
    expect_down(bench, 'Thing("a", {"fail": "down"})')
    assert [line for line in bench.world.log() if line.startswith("create")] == ["create a"]


def test_an_update_taken_back_while_nothing_can_be_read_stays_noted(bench: Bench) -> None:
    """Half of it may have been done."""
    bench.up('Thing("a", {"x": 1, "fail": "read"})')
    expect_down(bench, 'Thing("a", {"x": 2, "fail": "down"})')
    expect_down(bench, 'Thing("a", {"x": 1, "fail": "read"})')
    assert pending(bench) == [("updating", "a")]


def test_what_lacked_something_is_made_in_another_way_and_never_again_in_the_first(bench: Bench) -> None:
    for _ in range(2):
        with pytest.raises(ApplyFailed, match="no room") as caught:
            bench.up('Thing("a", {"fail": "missing"})')
    assert caught.value.exit_status == 3
    assert bench.up('Thing("a")').changes == {"same": 1, "create": 1}


def test_what_lacked_something_needs_nothing_to_be_destroyed(bench: Bench) -> None:
    with pytest.raises(ApplyFailed, match="no room"):
        bench.up('Thing("a", {"fail": "missing"})')
    bench.world.forget_log()
    bench.stack().destroy()
    assert "create a" not in bench.world.log()
    assert bench.resources() == {}


def test_inputs_that_can_never_work_end_with_exit_status_2_in_preview_already(bench: Bench) -> None:
    bench.program('Thing("a", {"bad": 7})')
    with pytest.raises(LocalError, match="bad is 7") as caught:
        bench.stack().preview()
    assert caught.value.exit_status == 2


def test_a_bug_in_a_handler_is_shown_with_its_traceback(bench: Bench) -> None:
    with pytest.raises(ApplyFailed, match="ZeroDivisionError: a bug") as caught:
        bench.up('Thing("a", {"fail": "bug"})')
    assert "fake_world.py" in caught.value.details  # type: ignore[attr-defined]
    assert "in _work" in caught.value.details  # type: ignore[attr-defined]


def test_an_unknown_type_ends_with_exit_status_2(bench: Bench) -> None:
    with pytest.raises(UnsupportedResource, match="no handler for fake:index/other:Other"):
        bench.up('pulumi.CustomResource("fake:index/other:Other", "a", {})')


def test_a_failing_delete_keeps_the_resource_and_the_next_destroy_goes_on(bench: Bench) -> None:
    bench.up('a = Thing("a"); Thing("b", {"ref": a.made, "fail": "delete"}); Thing("c")')
    with pytest.raises(ApplyFailed, match="'b' could not be deleted"):
        bench.stack().destroy()
    assert {"a", "b"} <= set(bench.resources())
    bench.up('a = Thing("a"); Thing("b", {"ref": a.made}); Thing("c")')
    bench.stack().destroy()
    assert bench.world.things() == {}


def test_a_failing_update_is_repaired_from_what_is_really_there(bench: Bench) -> None:
    bench.up('Thing("a", {"x": 1})')
    with pytest.raises(ApplyFailed, match="'a' could not be updated"):
        bench.up('Thing("a", {"x": 2, "fail": "update"})')
    bench.world.put("a", {"name": "a", "size": 1, "x": 2})  # half of it had been done
    assert bench.up('Thing("a", {"x": 1})').changes == {"same": 1, "update": 1}
    assert bench.world.things()["a"]["x"] == 1


def test_a_bug_in_the_program_is_shown_from_the_programs_first_line_on(bench: Bench) -> None:
    with pytest.raises(ProgramFailed, match="KeyError: 'nothing'") as caught:
        bench.up('Thing("a")\ndef deep():\n    return {}["nothing"]\ndeep()')
    assert caught.value.exit_status == 1
    assert "in deep" in caught.value.details
    assert "runpy" not in caught.value.details


def test_a_run_error_of_the_program_is_a_message_without_traceback(bench: Bench) -> None:
    with pytest.raises(ProgramFailed) as caught:
        bench.up('raise pulumi.RunError("no such tenant")')
    assert (str(caught.value), caught.value.details, caught.value.exit_status) == ("no such tenant", "", 1)


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
def test_an_exit_status_of_the_programs_own_exception_is_carried(bench: Bench, body: str) -> None:
    head = "class Refused(Exception):\n    exit_status = 2\n"
    head += 'def refuse(_):\n    raise Refused("queues hold messages")\n'
    with pytest.raises(ProgramFailed) as caught:
        bench.up(head + body)
    assert (str(caught.value), caught.value.details, caught.value.exit_status) == ("queues hold messages", "", 2)
    assert bench.world.things() == {}


def test_a_program_that_fails_keeps_the_outputs_of_the_last_good_run(bench: Bench) -> None:
    bench.up('pulumi.export("x", 1)')
    with pytest.raises(ProgramFailed):
        bench.up('raise pulumi.RunError("no")')
    assert bench.stack().outputs() == {"x": 1}


def test_a_program_that_leaves_by_sys_exit_deletes_nothing(bench: Bench) -> None:
    bench.up('Thing("a")')
    with pytest.raises(ProgramFailed, match=r"sys\.exit"):
        bench.up("import sys; sys.exit(0)")
    assert "a" in bench.world.things()


def test_failed_changes_are_told_as_events(bench: Bench) -> None:
    with pytest.raises(ApplyFailed):
        bench.up('Thing("a", {"fail": "create"})')
    failed = [e for e in bench.events if isinstance(e, ResourceEvent) and e.status == "failed"]
    assert [(e.name, e.op) for e in failed] == [("a", "create")]
    assert "the world said no" in failed[0].error


def test_a_component_whose_children_go_with_another_stays_as_long_as_they_do(bench: Bench) -> None:
    bench.up("""
        a = Thing("a")
        group = Group("group")
        Thing("child", None, pulumi.ResourceOptions(parent=group, deleted_with=a))
        Thing("held", {"ref": a.made, "fail": "delete", "slow": 0.2})
    """)
    before = set(bench.resources())
    with pytest.raises(ApplyFailed, match="'held' could not be deleted"):
        bench.stack().destroy()
    assert set(bench.resources()) == before
