"""The operators' page, in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect, sync_playwright

from tests.support.live_broker import LiveBroker
from tests.support.signup_service import Signup

WAIT_MS = 60_000


@pytest.fixture(scope="module")
def browser_page() -> Iterator[Page]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path, "no Chromium on PATH: install it (Debian: `scripts/apt chromium`) and run again"
    with sync_playwright() as playwright:
        # Root can't use Chromium's sandbox; what is opened here is our own page.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 900})
        page.set_default_timeout(WAIT_MS)
        expect.set_options(timeout=WAIT_MS)
        yield page
        browser.close()


@pytest.fixture
def page(browser_page: Page, signup: Signup) -> Iterator[Page]:
    """The page, opened with a key; whatever the browser complains of fails the test."""
    complaints: list[str] = []
    browser_page.on("pageerror", lambda error: complaints.append(str(error)))
    browser_page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    browser_page.goto(signup.base)
    browser_page.evaluate("() => sessionStorage.clear()")
    browser_page.reload()
    browser_page.get_by_label("API key").fill(signup.key)
    browser_page.get_by_role("button", name="Sign in").click()
    expect(browser_page.get_by_role("heading", name="Add a tenant")).to_be_visible()
    yield browser_page
    assert [text for text in complaints if "status of 4" not in text] == []


def accessible(page: Page) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_the_page_adds_a_tenant_showing_capacity_and_progress(page: Page, signup: Signup) -> None:
    add = page.get_by_role("button", name="Add tenant")
    expect(add).to_be_disabled()
    page.get_by_label("Id", exact=True).fill("by-page")
    for module in ("crm", "whatsapp"):
        page.get_by_label(module, exact=False).check()
    expect(page.locator("#capacity")).to_contain_text("27 of 50 queues (crm 14, whatsapp 12)")
    accessible(page)
    add.click()
    item = page.locator("#operations li", has_text="create by-page")
    expect(item).to_contain_text("broker objects")
    expect(item).to_contain_text("succeeded")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("kryonix_by-page")
    accessible(page)
    uri = dialog.locator("dd").last.inner_text()
    assert uri.startswith("amqp://kryonix_by-page:")
    dialog.get_by_role("button").click()
    expect(page.locator("#credentials-list")).to_be_empty()
    row = page.locator("tr[data-tenant=by-page]")
    expect(row).to_contain_text("27 of 50")
    row.get_by_role("button", name="suspend by-page").click()
    expect(row).to_contain_text("suspended")
    expect(row.get_by_role("button", name="resume by-page")).to_be_visible()


def test_the_page_refuses_an_oversized_order_before_sending_it(page: Page) -> None:
    page.get_by_label("Id", exact=True).fill("too-much")
    for box in page.locator("input[name=modules]").all():
        box.check()
    expect(page.locator("#capacity")).to_contain_text("does not fit the plan")
    expect(page.locator("#capacity")).to_contain_text("The smallest plan that fits is 'pro'")
    expect(page.get_by_role("button", name="Add tenant")).to_be_disabled()
    page.get_by_label("Plan").select_option("enterprise")
    expect(page.get_by_role("button", name="Add tenant")).to_be_enabled()


def test_a_failure_is_shown_with_its_reason(page: Page, signup: Signup) -> None:
    signup.caller.ask("POST", "/v1/tenants", {"id": "by-page", "modules": ["crm"], "plan": "basic"})
    page.get_by_label("Id", exact=True).fill("by-page")
    page.get_by_label("crm", exact=False).check()
    page.get_by_role("button", name="Add tenant").click()
    expect(page.get_by_role("alert")).to_contain_text("already exists. Choose another id")


def test_the_page_shows_other_operations_live_and_after_a_reload(page: Page, signup: Signup) -> None:
    signup.caller.done("POST", "/v1/tenants", {"id": "by-others", "modules": ["crm"], "plan": "basic"})
    row = page.locator("tr[data-tenant=by-others]")
    expect(row).to_contain_text("15 of 50")
    with LiveBroker(signup.outputs) as broker:
        broker.publish("/cliente_by-others", "cliente_by-others.crm.leads.create", 2)
    signup.caller.ended(signup.caller.taken("PATCH", "/v1/tenants/by-others", {"modules": ["portal"]}))
    why = row.get_by_text("2 messages in cliente_by-others.crm.leads.create")
    for look in (lambda: None, page.reload):
        look()
        row.get_by_text("the last operation failed").click()
        expect(why).to_be_visible()
    signup.caller.done("POST", "/v1/tenants", {"id": "by-others-too", "modules": ["portal"], "plan": "basic"})
    expect(page.locator("tr[data-tenant=by-others-too]")).to_contain_text("11 of 50")
    expect(why).to_be_visible()  # reading and keyboard focus are not interrupted
    expect(row.locator("summary")).to_be_focused()
    accessible(page)


def test_the_page_fits_a_phones_width(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.locator("tbody tr").first).to_be_visible()
    edges = page.locator("#content *:visible").evaluate_all("all => all.map(one => one.getBoundingClientRect().right)")
    assert max(edges) <= 390
    accessible(page)
    page.set_viewport_size({"width": 1100, "height": 900})


def test_a_wrong_key_opens_nothing(page: Page, signup: Signup) -> None:
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("API key").fill("kx_nobody_x")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("a valid API key is required")
    expect(page.locator("#content")).to_be_hidden()


def test_the_page_loads_nothing_from_other_hosts(signup: Signup) -> None:
    folder = Path(__file__).parents[3] / "kryonix" / "signup" / "page"
    for file in folder.iterdir():
        assert "//" not in file.read_text().replace("http://www.w3.org/2000/svg", "").replace("// ", ""), file.name
