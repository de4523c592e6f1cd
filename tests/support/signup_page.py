"""The operators' page in a real browser: opened, signed in, and looked at."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Error, Locator, Page, ViewportSize, expect, sync_playwright

from tests.support.waiting import eventually

__all__ = ["DESKTOP", "PHONE", "a_browser", "accessible", "fits_width", "loaded", "opened", "row", "sign_in"]

WAIT_MS = 60_000
RUNS_MS = 15_000
DESKTOP, PHONE = ViewportSize(width=1100, height=900), ViewportSize(width=390, height=844)


@contextmanager
def a_browser() -> Iterator[Page]:
    """Start Chromium for the block; its page."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path, "no Chromium on PATH: install it (Debian: `scripts/apt chromium`) and run again"
    with sync_playwright() as playwright:
        # Root can't use Chromium's sandbox; what is opened here is our own page.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        context = browser.new_context(viewport=DESKTOP, permissions=["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.on("dialog", lambda dialog: dialog.accept())  # leaving the page with unsaved credentials
        page.set_default_timeout(WAIT_MS)
        expect.set_options(timeout=WAIT_MS)
        yield page
        browser.close()


@contextmanager
def opened(page: Page, base: str, key: str) -> Iterator[None]:
    """Open the page with a key; whatever the browser complains of fails the test."""
    # A page without a script first: the one of a test before might sign in meanwhile, or ask a service that has ended.
    eventually("a page is open", lambda: page.goto(f"{base}/icon.svg"), ignoring=(Error,))
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.evaluate("() => sessionStorage.clear()")
    loaded(page, lambda: page.goto(base))
    sign_in(page, key)
    yield
    # Other tests' networks come and go meanwhile: Chromium then gives its requests up. One test loses an answer.
    expected = ("status of 4", "status of 503", "ERR_NETWORK_CHANGED", "ERR_CONNECTION_RESET")
    assert [text for text in complaints if not any(known in text for known in expected)] == []


def loaded(page: Page, load: Callable[[], object]) -> None:
    """Load the page until its scripts run: a network of another test that comes or goes meanwhile ends requests."""
    either = page.get_by_label("API key").or_(page.get_by_role("heading", name="Tenants", exact=True))
    ready = either.filter(visible=True).first

    def runs() -> bool:
        load()
        ready.wait_for(timeout=RUNS_MS)
        return True

    eventually("the page's scripts run", runs, ignoring=(Error,))


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Tenants", exact=True)).to_be_visible()


def accessible(page: Page) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def fits_width(page: Page, width: int = PHONE["width"]) -> None:
    edges = page.locator("main *:visible, dialog[open] *").evaluate_all(
        "all => all.map(one => [one.getBoundingClientRect().right, one.outerHTML.slice(0, 80)])"
    )
    assert [edge for edge in edges if edge[0] > width] == []


def row(page: Page, id: str) -> Locator:
    return page.locator(f"tr[data-tenant={id}]")
