"""The runbooks as a page of the service."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
import yaml

from kryonix.signup.runbooks import anchor, render, runbook_link, runbooks_page
from tests.unit.signup.test_health import client

__all__ = ["client"]

RULES = Path(__file__).parents[3] / "components" / "monitoring_files" / "rules"


def test_the_runbook_of_every_rule_is_a_section_of_the_page() -> None:
    groups = [group for file in RULES.glob("*.yaml") for group in yaml.safe_load(file.read_text())["groups"]]
    named = {rule["annotations"]["runbook"] for group in groups for rule in group["rules"] if "alert" in rule}
    assert len(named) > 20
    anchors = set(re.findall(r'<h2 id="([^"]+)"', runbooks_page()))
    links = {str(runbook_link(each)) for each in named}
    assert {link.removeprefix("/runbooks#") for link in links} <= anchors


def test_a_runbook_elsewhere_keeps_its_address() -> None:
    assert runbook_link("https://wiki.example/x#y") == "https://wiki.example/x#y"
    assert runbook_link("") is None
    assert runbook_link(None) is None


def test_markdown_is_rendered_without_markup_or_styles_of_its_own() -> None:
    html = render(
        "## A `b` c-d!\n\n<script>x</script> [here](#a) [doc](other.md) [x](javascript:x)\n\n| a |\n|:-:|\n| b |"
    )
    assert '<h2 id="a-b-c-d">' in html
    assert "&lt;script&gt;" in html
    assert '<a href="#a">here</a> doc' in html
    assert "javascript" not in re.sub(r"<p>.*?</p>", "", html)
    assert 'href="javascript' not in html
    assert "style" not in html
    assert anchor("TenantQueueBacklog") == "tenantqueuebacklog"


@pytest.mark.anyio
async def test_the_page_is_served_without_a_key(client: httpx.AsyncClient) -> None:
    answer = await client.get("/runbooks")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "TenantQueueBacklog" in answer.text
