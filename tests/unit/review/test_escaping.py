"""Foreign values stay text."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from kryonix.review.escaping import code, plain_text, prose
from tests.support.rendered import Rendered

MEANINGFUL = "@#`*_~|<>[]()!:/\\&;\n\r\t\"'$-+=.{}"
ATTACKS = (
    *("@octocat", "'@octocat'", "#1", "GH-1", ":smile:", "www.evil.example", "https://evil.example", "a@b.example"),
    *("</code></details>", "<!-- ", "<script>", "&lt;", "&#64;octocat", "\\", "\u202e", "'", "''"),
    *("!1", "&1", "%1", "$1", "~label", "GL-1", "WWW.evil.example"),
    *("| a | b |", "\n\n# title", "```\n", "[a](javascript:b)", "![a](b)", "$x$"),
)
HOSTILE = st.one_of(
    st.text(st.one_of(st.sampled_from(MEANINGFUL), st.sampled_from("aw1 "), st.characters()), max_size=200),
    st.lists(st.sampled_from(ATTACKS), max_size=6).map(" ".join),
)


def visible(text: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


@given(HOSTILE)
def test_a_value_in_a_table_in_a_fold_renders_as_plain_text(value: str) -> None:
    page = Rendered.of(
        f"<details><summary>{code(value)}</summary>\n\n| a | b |\n|---|---|\n| {code(value)} | x |\n\n</details>\n"
    )
    assert page.codes == [visible(value)] * 2
    assert page.rows == [["a", "b"], [visible(value), "x"]]
    assert page.tags <= {"details", "summary", "code", "table", "thead", "tbody", "tr", "th", "td"}
    assert page.unbalanced == []


@given(HOSTILE)
def test_a_sentence_contains_no_tag_link_or_mention(text: str) -> None:
    page = Rendered.of(f"- {prose(text)}\n\nend\n")
    assert page.tags <= {"ul", "li", "p", "code"}
    outside = "".join(page.texts)
    assert not re.search(r"[@#!$&~%][a-z0-9]|://|www\.|G[HL]-\d", outside, re.IGNORECASE)
    assert "".join([*page.texts, *page.codes]).count("end") >= 1


@given(HOSTILE)
def test_an_encoded_value_is_one_line_without_markdown_characters(value: str) -> None:
    assert not re.search(r"[\n\r`*~|<>\[\]\\@!$]|_(?![a-z0-9])", plain_text(value), re.IGNORECASE)


def test_our_names_stay_readable_in_the_source() -> None:
    assert code("cliente_acme-1.crm.leads.create") == "<code>cliente_acme-1.crm.leads.create</code>"


def test_quoted_values_become_code_and_apostrophes_do_not() -> None:
    assert prose("a tenant's 'plan' can't be 'x'") == "a tenant's <code>plan</code> can't be <code>x</code>"


def test_a_very_long_value_is_cut() -> None:
    assert len(plain_text("a" * 10_000)) == 240
