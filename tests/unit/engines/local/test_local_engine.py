"""Preview, up, refresh and destroy of a program's resources."""

from __future__ import annotations

from pathlib import Path

import pytest

from kryonix.engines.events import ResourceEvent
from kryonix.engines.local.errors import InvalidProgramInput, LocalError, UnsupportedFeature
from tests.support.engine_testbed import EngineTestbed

TWO = """
a = Thing("a", {"password": pulumi.Output.secret("hunter2")})
b = Thing("b", {"ref": a.made})
pulumi.export("made", b.made)
pulumi.export("token", a.token)
"""


def test_up_creates_everything_in_order_of_dependencies(testbed: EngineTestbed) -> None:
    summary = testbed.up(TWO)
    assert summary.changes == {"create": 3}
    assert [line for line in testbed.service.log() if line.startswith("create")] == [
        "create a",
        "created a",
        "create b",
        "created b",
    ]
    assert testbed.service.things()["b"]["ref"] == "made-a"


def test_a_second_up_changes_neither_world_nor_state(testbed: EngineTestbed) -> None:
    testbed.up(TWO)
    before = testbed.state_text()
    testbed.service.forget_log()
    summary = testbed.stack().up()
    assert summary.changes == {"same": 3}
    assert not summary.changed
    assert testbed.state_text() == before
    assert testbed.service.log() == ["configure {}", "close"]


def test_preview_shows_creates_and_changes_nothing(testbed: EngineTestbed) -> None:
    testbed.program(TWO)
    summary = testbed.stack().preview()
    assert summary.changes == {"create": 3}
    assert summary.outputs == {"made": "[unknown]", "token": "[unknown]"}
    assert testbed.service.things() == {}
    assert not (testbed.folder / ".kryonix").exists()


def test_preview_shows_updates_replacements_and_deletions(testbed: EngineTestbed) -> None:
    testbed.up("""
        Thing("a", {"x": 1})
        Thing("b", {"x": 1, "replaces": ["x"]})
        Thing("c")
    """)
    testbed.program("""
        a = Thing("a", {"x": 2})
        b = Thing("b", {"x": 2, "replaces": ["x"]})
        Thing("d", {"ref": b.made})
    """)
    before = testbed.state_text()
    summary = testbed.stack().preview()
    assert {(step.name, step.op, step.changed) for step in summary.steps if step.op != "same"} == {
        ("a", "update", ("x",)),
        ("b", "replace", ("x",)),
        ("c", "delete", ()),
        ("d", "create", ()),
    }
    assert testbed.state_text() == before
    assert "c" in testbed.service.things()


def test_up_updates_in_place_and_deletes_undeclared_resources(testbed: EngineTestbed) -> None:
    testbed.up('Thing("a", {"x": 1}); Thing("b")')
    summary = testbed.up('Thing("a", {"x": 2})')
    assert summary.changes == {"same": 1, "update": 1, "delete": 1}
    assert testbed.service.things() == {"a": {"name": "a", "size": 1, "x": 2}}


def test_outputs_hide_secrets_by_default(testbed: EngineTestbed) -> None:
    testbed.up(TWO)
    assert testbed.stack().outputs() == {"made": "made-b", "token": "[secret]"}
    assert testbed.stack().outputs(show_secrets=True) == {"made": "made-b", "token": "token-of-a"}


def test_destroy_deletes_dependents_first_and_leaves_an_empty_stack(testbed: EngineTestbed) -> None:
    testbed.up(TWO)
    testbed.service.forget_log()
    summary = testbed.stack().destroy()
    assert summary.changes == {"delete": 3}
    assert [line for line in testbed.service.log() if line.startswith("deleted")] == ["deleted b", "deleted a"]
    assert testbed.service.things() == {}
    assert testbed.resources() == {}
    assert testbed.stack().destroy().changes == {}


def test_refresh_drops_missing_resources_and_up_recreates_them(testbed: EngineTestbed) -> None:
    testbed.up('Thing("a", {"x": 1}); Thing("b")')
    testbed.service.remove("b")
    testbed.service.put("a", {"name": "a", "size": 1, "x": 7})
    summary = testbed.stack().refresh()
    assert {(step.name, step.op) for step in summary.steps} == {("a", "update"), ("b", "delete")}
    assert set(testbed.resources()) == {"demo-dev", "default", "a"}
    assert testbed.stack().up().changes == {"same": 1, "update": 1, "create": 1}
    assert testbed.service.things()["a"]["x"] == 1
    assert "b" in testbed.service.things()


def test_refresh_reads_the_other_services_when_one_does_not_answer(testbed: EngineTestbed) -> None:
    testbed.up("""
        away = pulumi.ResourceOptions(provider=Provider("away"))
        asked = [Thing(name, {"fail": "read"}, away) for name in ("a", "a2")]
        Thing("b", None, pulumi.ResourceOptions(depends_on=asked))
    """)
    testbed.service.remove("b")
    testbed.service.forget_log()
    with pytest.raises(LocalError, match="the service is down") as caught:
        testbed.stack(parallel=1).refresh()
    assert caught.value.exit_status == 3
    assert "b" not in testbed.resources()
    reads = [line for line in testbed.service.log() if line.startswith("read")]
    assert len(reads) == 2, "the service that is away is asked once"
    assert "read b" in reads


def test_refresh_of_an_unchanged_service_changes_nothing(testbed: EngineTestbed) -> None:
    testbed.up(TWO)
    before = testbed.state_text()
    assert testbed.stack().refresh().changes == {"same": 2}
    assert testbed.state_text() == before


def test_a_component_is_the_parent_in_its_childrens_urns(testbed: EngineTestbed) -> None:
    testbed.up("""
        g = Group("g")
        Thing("a", None, pulumi.ResourceOptions(parent=g))
    """)
    a = testbed.resources()["a"]
    assert a["urn"] == "urn:pulumi:dev::demo::fake:index:Group$fake:index/thing:Thing::a"
    assert a["parent"] == "urn:pulumi:dev::demo::fake:index:Group::g"
    assert testbed.resources()["g"]["parent"] == "urn:pulumi:dev::demo::pulumi:pulumi:Stack::demo-dev"


def test_the_default_provider_has_its_version_and_the_packages_config(testbed: EngineTestbed) -> None:
    (testbed.folder / "Pulumi.dev.yaml").write_text("config:\n  fake:host: here\n")
    testbed.up('Thing("a", None, pulumi.ResourceOptions(version="3.5.3"))')
    default = testbed.resources()["default_3_5_3"]
    assert default["urn"] == "urn:pulumi:dev::demo::pulumi:providers:fake::default_3_5_3"
    assert default["inputs"] == {"host": "here", "version": "3.5.3", "__internal": {}}
    assert default["outputs"] == {"host": "here", "version": "3.5.3"}
    assert testbed.resources()["a"]["provider"] == f"{default['urn']}::{default['id']}"
    assert 'configure {"host": "here"}' in testbed.service.log()


def test_an_explicit_providers_inputs_are_stored_encrypted(testbed: EngineTestbed) -> None:
    body = """
        p = Provider("p", {"password": pulumi.Output.secret("hunter2")})
        Thing("a", None, pulumi.ResourceOptions(provider=p))
    """
    testbed.up(body)
    assert 'configure {"password": "hunter2"}' in testbed.service.log()
    assert "hunter2" not in testbed.state_text()
    testbed.service.forget_log()
    testbed.stack().destroy()
    assert 'configure {"password": "hunter2"}' in testbed.service.log()


def test_a_provider_with_unknown_config_is_previewed(testbed: EngineTestbed) -> None:
    testbed.program("""
        a = Thing("a")
        p = Provider("p", {"host": a.made})
        Thing("b", None, pulumi.ResourceOptions(provider=p))
    """)
    assert testbed.stack().preview().changes == {"create": 4}
    assert testbed.stack().up().changes == {"create": 4}
    assert testbed.stack().up().changes == {"same": 4}


def test_a_stack_reference_returns_outputs_and_keeps_secrets(testbed: EngineTestbed) -> None:
    testbed.program(TWO)
    testbed.stack("one").up()
    testbed.program("""
        one = pulumi.StackReference("organization/demo/one")
        Thing("c", {"ref": one.require_output("made"), "password": one.require_output("token")})
    """)
    stack = testbed.stack("two")
    assert stack.preview().changes == {"create": 2, "read": 1}
    stack.up()
    assert testbed.service.things()["c"]["ref"] == "made-b"
    assert testbed.service.things()["c"]["password"] == "token-of-a"
    assert "token-of-a" not in testbed.state_text("two")
    reference = testbed.resources("two")["organization/demo/one"]
    assert reference["external"]
    assert reference["outputs"]["secretOutputNames"] == ["token"]
    assert stack.up().changes == {"same": 2, "read": 1}


def test_an_unknown_stack_reference_names_the_existing_stacks(testbed: EngineTestbed) -> None:
    testbed.up('Thing("a")')
    testbed.program('pulumi.StackReference("prod")')
    with pytest.raises(InvalidProgramInput, match=r"no stack 'prod' in .*Stacks there: dev, two"):
        testbed.stack("two").up()


def test_a_config_value_may_look_like_a_stacks_name(testbed: EngineTestbed) -> None:
    (testbed.folder / "Pulumi.dev.yaml").write_text("config: {demo:path: a/demo/no stack}")
    assert testbed.up('Thing("a")').changes == {"create": 2}


def test_two_resources_with_one_urn_are_refused(testbed: EngineTestbed) -> None:
    with pytest.raises(InvalidProgramInput, match="Duplicate resource URN"):
        testbed.up('Thing("a"); Thing("a")')


@pytest.mark.parametrize(
    ("options", "feature"),
    [
        ("replace_on_changes=['x']", "replace_on_changes"),
        ("custom_timeouts=pulumi.CustomTimeouts(create='5m')", "custom_timeouts"),
        ("import_='a'", "import_"),
        ("id='a'", "an existing resource of type fake:index/thing:Thing"),
        ("retain_on_delete=True", "retain_on_delete"),
        ("ignore_changes=['x']", "ignore_changes other than"),
    ],
)
def test_unsupported_options_are_refused_by_name(testbed: EngineTestbed, options: str, feature: str) -> None:
    with pytest.raises(UnsupportedFeature, match=f"uses {feature}"):
        testbed.up(f'Thing("a", None, pulumi.ResourceOptions({options}))')
    assert testbed.service.things() == {}


def test_functions_of_providers_are_refused(testbed: EngineTestbed) -> None:
    with pytest.raises(UnsupportedFeature, match="the function fake:index:look"):
        testbed.up('pulumi.runtime.invoke("fake:index:look", {})')


def test_transforms_are_refused(testbed: EngineTestbed) -> None:
    with pytest.raises(UnsupportedFeature, match="uses transforms"):
        testbed.up('pulumi.runtime.register_resource_transform(lambda args: None)\nThing("a")')
    assert testbed.service.things() == {}


def test_events_report_each_changes_start_and_end_without_values(testbed: EngineTestbed) -> None:
    testbed.up(TWO)
    told = [(e.name, e.op, e.status) for e in testbed.events if isinstance(e, ResourceEvent)]
    assert ("a", "create", "started") in told
    assert ("a", "create", "done") in told
    assert "hunter2" not in repr(testbed.events)


def test_the_program_runs_in_the_projects_folder(testbed: EngineTestbed) -> None:
    (testbed.folder / "its_own_module.py").write_text("NAME = 'mine'\n")
    cwd = Path.cwd()
    testbed.up("""
        import os, its_own_module
        Thing(its_own_module.NAME, {"cwd": os.getcwd(), "stack": pulumi.get_stack(), "project": pulumi.get_project(),
            "organization": pulumi.get_organization()})
    """)
    made = testbed.service.things()["mine"]
    assert made["cwd"] == str(testbed.folder)
    assert (made["stack"], made["project"], made["organization"]) == ("dev", "demo", "organization")
    assert Path.cwd() == cwd


def test_numbers_booleans_and_nested_values_arrive_as_they_were(testbed: EngineTestbed) -> None:
    testbed.up('Thing("a", {"n": 5, "f": 1.5, "t": True, "deep": {"l": [1, {"s": pulumi.Output.secret("hunter2")}]}})')
    made = testbed.service.things()["a"]
    assert (made["n"], made["f"], made["t"]) == (5, 1.5, True)
    assert isinstance(made["n"], int)
    assert made["deep"] == {"l": [1, {"s": "hunter2"}]}
    assert "hunter2" not in testbed.state_text()
