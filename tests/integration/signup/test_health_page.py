"""A tenant's health on the operators' page, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.sync_api import Locator, Page, Request, Route, expect

from tests.integration.signup.conftest import Registry, serving
from tests.integration.signup.test_listing import declare
from tests.support.signup_page import DESKTOP, PHONE, a_browser, accessible, fits_width, opened, row

EVERY_MS = 15_000
AWAY = {"type": "urn:kryonix:problem:monitoring-unavailable", "detail": "Prometheus can't be read"}


@pytest.fixture(scope="module")
def browser_page() -> Iterator[Page]:
    with a_browser() as page:
        page.clock.install()  # time passes as before, and by leaps where a test says so
        yield page


@pytest.fixture
def page(browser_page: Page, registry: Registry, prometheus: str) -> Iterator[Page]:
    """The list of four tenants; two have figures and alerts."""
    for id in ("acme", "acme-2", "quiet"):
        declare(registry, id)
    with serving(registry, prometheus=prometheus) as base, opened(browser_page, base, registry.key("read")):
        yield browser_page
        browser_page.unroute_all()


def view(page: Page, tenant: str) -> Locator:
    page.get_by_role("link", name=tenant, exact=True).click()
    expect(page.get_by_role("heading", name=tenant, exact=True)).to_be_focused()
    return page.locator("#detail")


def chart(page: Page, name: str) -> Locator:
    return page.locator("figure", has=page.get_by_role("heading", name=name, exact=True))


def test_a_tenants_view_shows_alerts_figures_and_limits(page: Page) -> None:
    detail = view(page, "acme")
    alert = detail.locator("[data-alert=TenantDepth]")
    expect(detail.get_by_role("heading", name="1 firing alert")).to_be_visible()
    expect(alert).to_contain_text("warning")
    expect(alert).to_contain_text("TenantDepth of (an address)")
    expect(alert).to_contain_text(re.compile("Since .* · TenantDepth · crm · What to do"))
    expect(chart(page, "Messages waiting")).to_contain_text("Waiting 40")
    expect(chart(page, "Messages per second")).to_contain_text("Published 6")
    expect(chart(page, "Wait")).to_contain_text("95 % waited less than 750 ms")
    expect(chart(page, "Connections").locator(".now")).to_have_text("9 of 10near the limit")
    expect(chart(page, "Fullest queue")).to_contain_text("limit 1,000")
    expect(chart(page, "Channels").locator(".now")).to_have_text("12")
    assert all(size["width"] > 200 for each in page.locator("canvas").all() if (size := each.bounding_box()))
    expect(detail).to_contain_text(re.compile(r"Times are yours: \S+ \(UTC"))
    detail.get_by_text("Figures as a table").click()
    connections = detail.get_by_role("row", name="Connections")
    expect(connections.get_by_role("cell").first).to_have_text("9")
    expect(connections.get_by_role("cell").last).to_have_text("10")
    accessible(page)

    page.get_by_role("link", name="All tenants").click()
    detail = view(page, "acme-2")
    expect(detail.get_by_role("heading", name="2 firing alerts")).to_be_visible()
    expect(detail.locator(".alert .severity")).to_have_text([re.compile("critical"), re.compile("info")])
    expect(chart(page, "Wait")).to_contain_text("not measured")
    expect(chart(page, "Wait")).to_contain_text("kryonix worker --metrics-port")
    expect(chart(page, "Wait").get_by_role("slider")).to_be_hidden()
    expect(chart(page, "Connections").locator(".now")).to_have_text("77")


def test_an_alert_leads_to_its_section_of_the_runbooks(page: Page) -> None:
    detail = view(page, "acme")
    with page.context.expect_page() as opening:
        detail.get_by_role("link", name="What to do about TenantDepth (opens a new tab)").click()
    runbooks = opening.value
    expect(runbooks.get_by_role("heading", name="TenantQueueBacklog")).to_be_in_viewport()
    for scheme in ("light", "dark"):
        runbooks.emulate_media(color_scheme=scheme)
        accessible(runbooks)
    runbooks.set_viewport_size(PHONE)
    assert runbooks.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]
    runbooks.close()


def test_charts_are_read_by_keyboard_all_at_one_moment(page: Page) -> None:
    view(page, "acme-2")
    slider = chart(page, "Messages waiting").get_by_role("slider")
    slider.focus()
    last = int(slider.get_attribute("aria-valuemax") or 0)
    assert 70 < last < 90, "two hours of six have values, and the chart begins with the first"
    expect(page.locator("#detail")).to_contain_text("The first value is from")
    expect(slider).to_have_attribute("aria-valuenow", str(last))
    page.keyboard.press("ArrowLeft")
    expect(slider).to_have_attribute("aria-valuenow", str(last - 1))
    expect(slider).to_have_attribute("aria-valuetext", re.compile(r"\d\d:\d\d.*: Waiting 5,000, Being handled 500"))
    channels = chart(page, "Channels").locator(".legend")
    expect(channels.locator(".at")).to_have_text(re.compile(r"\d\d:\d\d"))
    page.keyboard.press("Home")
    expect(slider).to_have_attribute("aria-valuenow", "0")
    expect(channels).to_contain_text("Open –")
    page.keyboard.press("Escape")
    expect(channels).to_contain_text("Open 3")
    page.get_by_label("6 hours").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_label("1 hour")).to_be_checked()
    expect(page.locator("#detail")).to_contain_text("A value every 15 s.")
    page.get_by_role("button", name="Plan and state").click()
    expect(page.get_by_role("heading", name="Plan and state")).to_be_focused()


def test_figures_are_renewed_while_the_page_is_seen(page: Page) -> None:
    asked: list[str] = []

    def note(request: Request) -> None:
        if "/metrics" in request.url:
            asked.append(request.url)

    page.on("request", note)
    view(page, "acme")
    expect(chart(page, "Messages waiting")).to_contain_text("Waiting 40")
    first = len(asked)
    with page.expect_response("**/metrics?hours=6"):
        page.clock.run_for(EVERY_MS)
    assert len(asked) > first
    page.evaluate("() => Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    page.clock.run_for(EVERY_MS)  # a reading may have been under way
    hidden = len(asked)
    page.clock.run_for(10 * EVERY_MS)
    assert len(asked) == hidden
    with page.expect_response("**/metrics?hours=6"):
        page.evaluate("() => { delete document.hidden; document.dispatchEvent(new Event('visibilitychange')); }")
    page.get_by_role("link", name="All tenants").click()
    expect(page.locator("#list")).to_be_visible()
    left = len(asked)
    page.clock.run_for(10 * EVERY_MS)
    assert len(asked) == left


def test_a_prometheus_away_is_said_and_tried_again(page: Page) -> None:
    def refuse(route: Route) -> None:
        route.fulfill(status=503, json=AWAY)

    page.route(re.compile("/(metrics|alerts)"), refuse)
    detail = view(page, "acme")
    warning = detail.locator(".note.warn")
    expect(warning).to_have_text(
        "Prometheus can't be read. The tenant and its messages are not affected. This page tries again by itself."
    )
    expect(page.locator("figure")).to_have_count(8)
    expect(page.locator("figure:visible")).to_have_count(0)
    expect(detail).not_to_contain_text("No firing alerts")
    accessible(page)
    page.unroute_all()
    page.clock.run_for(EVERY_MS)
    expect(chart(page, "Messages waiting")).to_contain_text("Waiting 40")
    expect(warning).to_be_hidden()
    page.route("**/metrics?*", refuse)
    page.clock.run_for(EVERY_MS)
    expect(warning).to_contain_text("The charts are from before.")
    expect(chart(page, "Messages waiting")).to_be_visible()


def test_without_monitoring_the_page_says_how_to_turn_it_on(browser_page: Page, registry: Registry, base: str) -> None:
    declare(registry, "acme")
    with opened(browser_page, base, registry.key("read")):
        expect(row(browser_page, "acme")).to_be_visible()
        expect(browser_page.get_by_label("Alerts", exact=True)).to_be_hidden()
        detail = view(browser_page, "acme")
        expect(detail).to_contain_text("Monitoring is off, so there are no charts and alerts.")
        expect(detail).to_contain_text("kryonix:monitoring: true")
        expect(browser_page.get_by_label("6 hours")).to_be_hidden()
        accessible(browser_page)
        browser_page.get_by_role("button", name="Check again").click()
        expect(browser_page.get_by_role("button", name="Check again")).to_be_focused()


def test_a_tenant_without_figures_is_no_error(page: Page) -> None:
    detail = view(page, "quiet")
    expect(detail).to_contain_text("No figures yet. There is nothing about quiet in the last 6 hours.")
    expect(detail).to_contain_text("✓ No firing alerts")
    expect(page.locator("figure:visible")).to_have_count(0)


def test_the_list_marks_tenants_with_alerts_and_filters_by_them(page: Page) -> None:
    expect(row(page, "acme")).to_contain_text("▲ 1 warning")
    expect(row(page, "acme-2")).to_contain_text("◆ 1 critical, 1 more")
    expect(page.get_by_role("list", name="Alerts of the platform")).to_contain_text("BrokerMemory of (an address)")
    expect(row(page, "quiet").locator(".mark")).to_have_count(0)
    page.get_by_label("Alerts", exact=True).select_option("firing")
    expect(page.locator("#count")).to_have_text("2 tenants")
    accessible(page)
    row(page, "acme-2").get_by_role("link", name="1 critical").click()
    expect(page.get_by_role("heading", name="2 firing alerts")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_are_readable_on_a_phone_in_each_scheme(page: Page, scheme: Literal["light", "dark"]) -> None:
    page.set_viewport_size(PHONE)
    expect(row(page, "acme-2")).to_contain_text("1 critical")
    fits_width(page)
    detail = view(page, "acme")
    expect(chart(page, "Messages waiting")).to_contain_text("Waiting 40")
    page.emulate_media(color_scheme=scheme)  # charts that are drawn already get the other colours
    detail.get_by_text("Figures as a table").click()
    fits_width(page)
    accessible(page)
    ink = "() => getComputedStyle(document.documentElement).getPropertyValue('--chart-1').trim()"
    colours = """() => {
        const canvas = document.querySelector('[data-chart=connections] canvas');
        const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        const found = new Set();
        for (let at = 0; at < pixels.length; at += 4) if (pixels[at + 3] === 255)
            found.add('#' + [0, 1, 2].map((part) => pixels[at + part].toString(16).padStart(2, '0')).join(''));
        return [...found];
    }"""
    assert page.evaluate(ink) in page.evaluate(colours)
    page.set_viewport_size(DESKTOP)
    page.emulate_media(color_scheme="light")
