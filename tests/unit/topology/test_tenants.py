from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kryonix.topology.catalog import default_catalog
from kryonix.topology.errors import MAX_PROBLEMS, InvalidInput
from kryonix.topology.tenants import Tenant, parse_tenant, parse_tenants, remove_entry, tenants_schema

ROOT = Path(__file__).parents[3]
GOOD = "tenants:\n  - {id: acme, modules: [crm], plan: basic}\n"


def parse(text: str | bytes) -> list[Tenant]:
    content = text.encode() if isinstance(text, str) else text
    return parse_tenants(content, "tenants.yaml", default_catalog())


def problems(text: str | bytes) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    return [str(problem) for problem in caught.value.problems]


def test_a_tenant_is_active_on_the_main_cell_by_default() -> None:
    (tenant,) = parse(GOOD)
    assert (tenant.id, tenant.modules, tenant.plan, tenant.status, tenant.cell) == (
        "acme",
        ("crm",),
        "basic",
        "active",
        "main",
    )


def test_an_empty_tenant_list_is_valid() -> None:
    assert parse("tenants: []") == []


def test_the_projects_own_list_is_valid() -> None:
    ids = [tenant.id for tenant in parse((ROOT / "tenants.yaml").read_bytes())]
    assert ids[:2] == ["exemploempresa", "siqueiracampos"]


def test_all_errors_of_a_file_are_reported_with_their_lines() -> None:
    found = problems(
        "tenants:\n"
        "  - id: Foo Bar\n"
        "    modules: [crn]\n"
        "    plam: pro\n"
        "  - {id: acme, modules: crm, plan: gold}\n"
        "  - {id: acme, modules: [crm], plan: pro}\n"
        "extra: 1\n"
    )
    expected = [
        ("tenants.yaml:7:", "extra", "unknown field"),
        ("tenants.yaml:2:", "'Foo Bar'", "did you mean 'foo-bar'?"),
        ("tenants.yaml:2:", "'Foo Bar'", "'plan' is missing"),
        ("tenants.yaml:4:", "plam", "did you mean 'plan'?"),
        ("tenants.yaml:3:", "modules.0", "did you mean 'crm'?"),
        ("tenants.yaml:5:", "'acme' modules", "expected a list, such as [crm]; got 'crm'"),
        ("tenants.yaml:5:", "'acme' plan", "unknown plan 'gold'; allowed: basic, pro, enterprise"),
        ("tenants.yaml:6:", "'acme' id", "already on line 5"),
    ]
    for parts in expected:
        assert any(all(part in line for part in parts) for line in found), (parts, found)
    assert len(found) == len(expected)


def test_a_repeated_key_and_a_mistyped_value_hide_no_other_error() -> None:
    found = problems(
        "tenants:\n"
        "  - {id: acme, modules: [crn], plan: pro}\n"
        "  - id: beta\n"
        "    plan: basic\n"
        "    plan: !gold pro\n"
        "    modules: !!binary x\n"
        "    [a]: 1\n"
    )
    assert [line.split("; did you mean")[0] for line in found] == [
        "tenants.yaml:5: tenant 'beta' plan: the key 'plan' is duplicated (first on line 4). Keep one",
        "tenants.yaml:6: tenant 'beta' modules: 'x' is not a valid value (binary). Quote it if it is text",
        "tenants.yaml:7: tenant 'beta' a key must be a name, not a list or mapping",
        "tenants.yaml:2: tenant 'acme' modules.0: unknown module 'crn'",
        "tenants.yaml:6: tenant 'beta' modules: expected a list, such as [x]; got 'x'",
    ]


@pytest.mark.parametrize("id", ["abc", "a--b", "ab-", "a" * 40])
def test_an_id_has_3_to_40_characters(id: str) -> None:
    assert parse(f"tenants: [{{id: {id}, modules: [crm], plan: pro}}]")[0].id == id


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("".join(f"- {{id: acme, modules: [crn{n}]}}\n" for n in range(5_000)), id="tenants"),
        pytest.param(f"- {{id: acme, modules: [{', '.join(f'm{n}' for n in range(20_000))}]}}", id="modules"),
        pytest.param(f"- {{{', '.join(f'k{n}: 1' for n in range(20_000))}}}", id="fields"),
        pytest.param(f"- {{{'id: acme, ' * 20_000}}}", id="keys"),
    ],
)
def test_a_file_of_errors_is_refused_with_the_first_500(content: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(f"tenants:\n{content}")
    assert len(caught.value.problems) == MAX_PROBLEMS
    assert str(caught.value).endswith("only the first 500 problems are shown")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{id: ab, modules: [crm], plan: pro}", "3 to 40 characters"),
        ("{id: 1abc, modules: [crm], plan: pro}", "is not a valid tenant ID"),
        ("{id: a_b, modules: [crm], plan: pro}", "did you mean 'a-b'?"),
        ("{id: " + "a" * 41 + ", modules: [crm], plan: pro}", "3 to 40 characters"),
        ("{id: " + "x" * 10_000 + ", modules: [crm], plan: pro}", "..."),
        ("{id: ../../etc, modules: [crm], plan: pro}", "is not a valid tenant ID"),
        ('{id: "a\\nbc", modules: [crm], plan: pro}', "is not a valid tenant ID"),
        ('{id: "abc\\n", modules: [crm], plan: pro}', "is not a valid tenant ID"),
        ("{id: açaí, modules: [crm], plan: pro}", "is not a valid tenant ID"),
        ("{id: \uff41\uff42\uff43, modules: [crm], plan: pro}", "is not a valid tenant ID"),
        ("{id: admin, modules: [crm], plan: pro}", "reserved"),
        ("{id: 123, modules: [crm], plan: pro}", "expected text; got 123"),
        ("{id: null, modules: [crm], plan: pro}", "expected text"),
        ("{id: acme, modules: [], plan: pro}", "expected at least one entry"),
        ("{id: clínica, modules: [crm], plan: pro}", "did you mean 'clinica'?"),
        ("{id: \u0430cme, modules: [crm], plan: pro}", r"'\u0430cme') is not a valid tenant ID"),
        ("{id: 'acme ', modules: [crm], plan: pro}", "did you mean 'acme'?"),
        ("{id: 2024-13-45, modules: [crm], plan: pro}", "id: '2024-13-45' is not a valid value (timestamp)"),
        ("{id: acme, modules: [\u0441rm], plan: pro}", r"'\u0441rm'); did you mean 'crm'? Allowed: crm"),
        ("{id: acme, modules: [crm, portal, crm, portal], plan: pro}", "'crm', 'portal': in the list twice"),
        ("{id: acme, modules: [true, 1], plan: pro}", "modules.1: expected text; got 1"),
        ("{id: acme, modules: [.nan], plan: pro}", "modules.0: expected text; got nan"),
        ("{id: acme, modules: [crm], plan: " + "9" * 5000 + "}", "tenant 'acme' plan: '99"),
        ("{id: acme, modules: [crm], plan: yes}", "expected text; got True"),
        ("{id: acme, modules: {crm: 1}, plan: pro}", "expected a list"),
        ("{id: acme, modules: [7], plan: pro}", "expected text; got 7"),
        ("{id: acme, modules: [crm]}", "'plan' is missing"),
        ("{id: acme, modules: [crm], plan: 3}", "expected text"),
        ("{id: acme, modules: [crm], plan: pro, status: on}", "allowed: active, suspended"),
        ("{id: acme, modules: [crm], plan: pro, auth: certificates}", "did you mean 'certificate'?"),
        ("{id: acme, modules: [crm], plan: pro, status: suspendd}", "did you mean 'suspended'?"),
        ("{id: acme, modules: [crm], plan: pro, cell: [a]}", "expected text"),
        ("{id: acme, modules: [crm], plan: pro, cell: " + "a" * 64 + "}", "is too long: at most 63 characters"),
        ("{id: acme, modules: [crm], plan: pro, cell: A}", "'A' does not match the pattern ^[a-z]"),
        ("7", "expected a mapping; got 7"),
        ("{}", "'id' is missing"),
    ],
)
def test_an_invalid_tenant_is_refused_with_the_rule(entry: str, said: str) -> None:
    found = problems(f"tenants:\n  - {entry}\n")
    assert any(said in line for line in found), found
    assert all(line.startswith("tenants.yaml:2:") for line in found)
    assert all(len(line) < 500 for line in found)


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"# only a comment\n", "the file is empty"),
        (b"- a\n", "expected a mapping"),
        (b"just text", "expected a mapping"),
        (b"tenants:\n", "expected a list of tenants"),
        (b"tenants: {a: 1}\n", "expected a list of tenants"),
        (b"tenant: []\n", "did you mean 'tenants'?"),
        (b"tenants: []\ntenants: []\n", "is duplicated (first on line 1)"),
        (b"tenants:\n\t- id: acme\n", "indented with a tab"),
        (b"tenants: [\n", "Close every bracket and quote, indent with spaces"),
        (b"tenants: [*nowhere]\n", "undefined alias"),
        (b"tenants: []\n---\ntenants: []\n", "another document"),
        (b"\xff\xfe\x00", "is not UTF-8"),
        ("tenants: [] # é".encode("latin-1"), "is not UTF-8"),
        (b"tenants: []\n\x00\x01", "tenants.yaml:2: not readable as YAML"),
        (b"!!python/object/apply:os.system [x]", "expected a mapping"),
        (b"tenants: [!!python/name:os.system '']", "not a valid value"),
        (BOMB.encode(), "expand beyond"),
        (b"a: &a [*a]", "expand beyond"),
        (b"x" * (5 * 1024 * 1024), "the limit is 4,194,304"),
        (b"tenants: " + b"[" * 100_000, "YAML"),
    ],
)
def test_a_file_without_a_tenant_list_is_refused(content: bytes, said: str) -> None:
    found = problems(content)
    assert any(said in line for line in found), found
    assert all(line.startswith("tenants.yaml") for line in found)


def tenants_or_problems(content: bytes) -> list[object]:
    try:
        return [*parse(content)]
    except InvalidInput as refusal:
        return [str(problem) for problem in refusal.problems]


def assert_parsed_or_refused(content: bytes) -> None:
    found = tenants_or_problems(content)
    assert all(isinstance(each, Tenant) or str(each).startswith("tenants.yaml") for each in found)


@given(st.binary(max_size=300))
def test_any_bytes_are_tenants_or_refused_with_a_message(content: bytes) -> None:
    assert_parsed_or_refused(content)


yaml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "modules", "plan", "x"]), inner),
    max_leaves=8,
)


@given(yaml_values)
def test_any_yaml_is_tenants_or_refused_with_a_message(value: object) -> None:
    content = yaml.safe_dump({"tenants": value}, allow_unicode=True).encode("utf-8", "surrogatepass")
    assert_parsed_or_refused(content)


def test_a_tenant_in_a_stacks_config_is_checked_too() -> None:
    with pytest.raises(InvalidInput, match="unknown module 'crn'") as caught:
        parse_tenant({"id": "acme", "modules": ["crn"], "plan": "pro"}, "Pulumi.x.yaml", default_catalog())
    assert "Pulumi.x.yaml: tenant 'acme'" in str(caught.value)


def test_the_editor_schema_is_generated_from_the_models() -> None:
    written = json.loads((ROOT / "tenants.schema.json").read_text())
    assert written == tenants_schema(default_catalog()), "run `kryonix schema > tenants.schema.json`"


def test_a_merge_key_is_one_error() -> None:
    assert problems("base: &base {plan: pro, modules: [crm]}\ntenants:\n  - id: acme\n    <<: *base\n") == [
        "tenants.yaml:4: merge keys (`<<`) are not supported. Write out the fields instead"
    ]


ENTRY = "  - id: acme\n    modules: [crm]\n    plan: basic\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            f"# top\ntenants:\n  # a\n{ENTRY}  # b\n  - {{id: beta}}\n",
            "# top\ntenants:\n  # a\n  # b\n  - {id: beta}\n",
        ),
        (f"tenants:\n  - {{id: beta}}\n\n{ENTRY}# end\n", "tenants:\n  - {id: beta}\n\n# end\n"),
        (f"tenants:  # all\n{ENTRY}", "tenants: []  # all\n"),
        ("tenants:\n- {id: acme,\n   plan: pro}\n- id: beta\n", "tenants:\n- id: beta\n"),
        ("tenants:\r\n- id: beta\r\n-\r\n  id: acme\r\n", "tenants:\r\n- id: beta\r\n"),
        ("tenants:\n  - plan: >\n      ba\n      sic\n    id: acme\n  - id: beta", "tenants:\n  - id: beta"),
        (
            "tenants:\n  - id: acme\n    modules:\n      - crm  # one\n\n      - portal\n  - id: beta\n",
            "tenants:\n  - id: beta\n",
        ),
    ],
)
def test_an_entry_leaves_a_list_with_comments_in_place(before: str, after: str) -> None:
    assert remove_entry(before.encode(), "tenants.yaml", "acme")[0].decode() == after


@pytest.mark.parametrize(
    "text",
    [
        "tenants: [{id: acme}, {id: beta}]\n",
        "tenants:\n  - &base {id: acme, plan: pro}\n  - *base\n",
        "tenants:\n  - id: acme\n    modules: &all [crm]\n  - id: beta\n    modules: *all\n",
    ],
)
def test_an_entry_that_others_share_is_not_removed(text: str) -> None:
    with pytest.raises(InvalidInput, match="can't be removed by itself"):
        remove_entry(text.encode(), "tenants.yaml", "acme")
