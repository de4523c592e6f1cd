"""The operators' page, in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.support.live_broker import LiveBroker
from tests.support.signup_page import (
    DESKTOP,
    PHONE,
    a_browser,
    accessible,
    fits_width,
    loaded,
    opened,
    row,
    sign_in,
)
from tests.support.signup_service import Signup
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def browser_page() -> Iterator[Page]:
    with a_browser() as page:
        yield page


@pytest.fixture
def page(browser_page: Page, signup: Signup) -> Iterator[Page]:
    with opened(browser_page, signup.base, signup.key):
        yield browser_page


def question(page: Page) -> Locator:
    return page.locator("#question[open]")


def declare(signup: Signup, id: str) -> None:
    """Insert the row that the program writes for a tenant of tenants.yaml."""
    signup.as_superuser(
        "INSERT INTO tenants.rabbitmq_configurations (cliente_id, vhost, modulos_habilitados, plano, status) "
        f"VALUES ('{id}', '/cliente_{id}', '[\"crm\"]', 'basic', 'ativo')"
    )


def test_a_tenant_is_added_and_its_credentials_are_shown_until_saved(page: Page, signup: Signup) -> None:
    page.get_by_role("button", name="Add tenant").click()
    order = page.locator("#order")
    add, why = order.get_by_role("button", name="Add tenant"), page.locator("#order-why")
    expect(add).to_be_disabled()
    expect(why).to_have_text("Enter an ID.")
    order.get_by_label("ID", exact=True).fill("By Page")
    expect(why).to_have_text("'By Page' isn't a valid ID: see the rule below the field.")
    for box in order.get_by_role("checkbox").all():
        box.check()
    capacity = page.locator("#capacity")
    expect(capacity).to_contain_text("This does not fit the plan 'basic': 87 queues of 50 allowed")
    accessible(page)
    capacity.get_by_role("button", name="Use the plan pro").click()
    expect(capacity).to_contain_text("87 of 200 queues")
    order.get_by_label("ID", exact=True).fill("by-page")
    for box in order.get_by_role("checkbox").all()[2:]:
        box.uncheck()
    order.get_by_label("Plan").select_option("basic")
    expect(capacity).to_contain_text("27 of 50 queues")
    expect(capacity).to_contain_text("crm 14, whatsapp 12")
    expect(why).to_be_empty()
    add.click()
    item = page.locator("#operations li", has_text="Create by-page")
    expect(item).to_contain_text("broker objects")
    loaded(page, page.reload)  # the key that opens the credentials survives it

    dialog = page.locator("#credentials[open]")
    expect(dialog).to_contain_text("kryonix_by-page")
    accessible(page)
    uri = page.locator("#credentials-amqp_uri").inner_text()
    assert uri.startswith("amqp://kryonix_by-page:")
    dialog.get_by_role("button", name="Copy AMQP URI").click()
    expect(dialog).to_contain_text("AMQP URI copied.")
    assert page.evaluate("() => navigator.clipboard.readText()") == uri
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.get_by_role("button", name="Sign out").click()
    expect(question(page)).to_contain_text("The credentials of by-page have not been saved.")
    question(page).get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Show credentials").click()
    expect(page.locator("#credentials-amqp_uri")).to_have_text(uri)
    stored = page.evaluate("() => JSON.stringify([sessionStorage, localStorage, document.cookie])")
    assert uri.split(":")[2].split("@")[0] not in stored
    loaded(page, page.reload)  # shown and not saved: they are gone, and the page says so
    expect(page.locator("#notices")).to_contain_text("rotate the credentials of by-page again")
    accessible(page)

    page.get_by_role("link", name="Go to by-page").click()
    page.get_by_role("button", name="Rotate credentials: by-page").click()
    question(page).get_by_role("button", name="Rotate the credentials of by-page").click()
    expect(dialog).to_contain_text("kryonix_by-page.2")
    page.get_by_role("button", name="I've saved these").click()
    expect(page.locator("#credentials-list")).to_be_empty()
    page.get_by_role("button", name="Dismiss").click()
    expect(page.locator("#notices li")).to_have_count(0)
    assert page.evaluate("() => sessionStorage.getItem('kryonix-credentials')") is None


def test_what_is_done_to_a_tenant_is_asked_before_and_recorded(page: Page, signup: Signup) -> None:
    """Slow: one tenant goes through each operation of its page."""
    signup.caller.done("POST", "/v1/tenants", {"id": "by-life", "modules": ["crm", "portal"], "plan": "basic"})
    row(page, "by-life").get_by_role("button", name="Suspend by-life").click()
    expect(question(page)).to_contain_text("All open connections of by-life are closed at once")
    accessible(page)
    shown = row(page, "by-life").get_by_role("button", name="Suspend by-life")
    shown.evaluate("button => button.replaceWith(button.cloneNode(true))")  # as a list that is shown anew does
    question(page).get_by_role("button", name="Cancel").click()
    expect(shown).to_be_focused()
    row(page, "by-life").get_by_role("link", name="by-life").click()
    detail = page.locator("#detail")
    expect(detail.get_by_role("heading", name="by-life")).to_be_focused()
    expect(detail).to_contain_text("25 of 50")
    expect(detail.locator("tbody tr")).to_contain_text("a admin")

    with LiveBroker(signup.outputs) as broker:
        broker.publish("/cliente_by-life", "cliente_by-life.crm.leads.create", 2)
    detail.get_by_role("button", name="Change plan or modules").click()
    order = page.locator("#order")
    expect(page.locator("#order-why")).to_have_text("Nothing is changed yet.")
    order.get_by_label("crm").uncheck()
    expect(page.locator("#order-effect")).to_contain_text("Removes crm with all queues.")
    order.get_by_role("button", name="Change by-life").click()
    refused = detail.get_by_role("group", name="Last operation")
    expect(refused.get_by_role("row", name="cliente_by-life.crm.leads.create 2")).to_be_visible()
    accessible(page)
    page.get_by_role("button", name="Clear Change by-life").click()
    expect(page.locator("#operations li", has_text="Change by-life")).to_have_count(0)
    refused.get_by_role("button", name="Delete these messages").click()
    yes = question(page).get_by_role("button", name="Delete the messages and change")
    expect(yes).to_be_disabled()
    question(page).get_by_label("Type by-life to confirm").fill("by-life")
    yes.click()
    expect(detail).to_contain_text("11 of 50")
    expect(refused).to_be_hidden()
    expect(detail).to_contain_text("loss of 1 queue accepted")

    for label, done in (("Converge", "nothing to repair"), ("Suspend", "suspended"), ("Resume", "active")):
        detail.get_by_role("button", name=f"{label}: by-life").click()
        if label != "Resume":
            question(page).get_by_role("button", name=f"{label} by-life").click()
        expect(detail.locator("tbody tr", has_text=label).first).to_contain_text("succeeded")
        expect(detail).to_contain_text(done)
    detail.get_by_role("button", name="Offboard: by-life").click()
    expect(question(page)).to_contain_text("30 days by default")
    question(page).get_by_role("button", name="Offboard by-life").click()
    expect(detail.get_by_text("removed after")).to_be_visible()
    detail.get_by_role("button", name="Remove now: by-life").click()
    question(page).get_by_label("Type by-life to confirm").fill("by-life")
    question(page).get_by_role("button", name="Remove by-life").click()
    expect(detail.locator(".heading .badge")).to_have_text("removed")
    expect(detail.get_by_role("heading", name="Actions")).to_be_hidden()
    page.get_by_role("button", name="Clear finished").click()
    expect(page.locator("#operations-section")).to_be_hidden()
    detail.get_by_role("link", name="All tenants").click()
    expect(page.locator("#count")).to_contain_text("tenant")
    expect(row(page, "by-life")).to_have_count(0)
    page.get_by_label("Status").select_option("removed")
    expect(row(page, "by-life")).to_contain_text("removed")


def test_others_work_is_shown_live_and_focus_is_kept(page: Page, signup: Signup) -> None:
    signup.caller.done("POST", "/v1/tenants", {"id": "by-others", "modules": ["crm"], "plan": "basic"})
    expect(row(page, "by-others")).to_contain_text("15 of 50")
    row(page, "by-others").get_by_role("button", name="Rotate by-others").focus()
    with LiveBroker(signup.outputs) as broker:
        broker.publish("/cliente_by-others", "cliente_by-others.crm.leads.create", 2)
    signup.caller.ended(signup.caller.taken("PATCH", "/v1/tenants/by-others", {"modules": ["portal"]}))
    expect(row(page, "by-others").get_by_role("link", name="last operation failed")).to_be_visible()
    signup.caller.done("POST", "/v1/tenants", {"id": "by-others-too", "modules": ["portal"], "plan": "basic"})
    expect(row(page, "by-others-too")).to_contain_text("11 of 50")
    expect(row(page, "by-others").locator(":focus")).to_have_count(1)
    row(page, "by-others").get_by_role("link", name="last operation failed").click()
    summary = page.locator("#detail summary", has_text="Messages would be lost")
    summary.click()
    signup.caller.done("POST", "/v1/tenants/by-others/suspend")
    expect(page.locator("#detail tbody tr")).to_have_count(3)
    expect(page.locator("#detail td details")).to_contain_text("2 messages in cliente_by-others.crm.leads.create")
    expect(page.locator("#detail td details")).to_have_attribute("open", "")
    expect(summary).to_be_focused()


def test_the_list_is_searched_sorted_and_paged(page: Page, signup: Signup) -> None:
    names = [f"many-{number:02}" for number in range(30)]
    for name in names:
        declare(signup, name)
    try:
        page.get_by_label("Search").fill("many")
        # The number alone may be that of all tenants, counted while the last of these were inserted.
        expect(page.locator("tbody tr").first).to_contain_text("many-00")
        expect(page.locator("#count")).to_have_text("1–25 of 30 tenants")
        page.get_by_role("button", name="Next").click()
        expect(page.locator("#count")).to_have_text("26–30 of 30 tenants")
        expect(page.locator("tbody tr").first).to_contain_text("many-25")
        page.get_by_role("button", name="Tenant", exact=True).click()
        expect(page.get_by_role("columnheader", name="Tenant")).to_have_attribute("aria-sort", "descending")
        expect(page.locator("tbody tr").first).to_contain_text("many-29")
        accessible(page)
        page.get_by_label("Search").fill("many-x")
        expect(page.locator("tbody")).to_contain_text("No tenant matches.")
        page.get_by_label("Search").fill("many-07")
        expect(page.locator("tbody tr")).to_have_count(1)
        expect(row(page, "many-07")).to_contain_text("config file")
        expect(row(page, "many-07").get_by_role("button")).to_have_count(0)
        row(page, "many-07").get_by_role("link").click()
        expect(page.locator("#detail")).to_contain_text("A config file manages this tenant")
        expect(page.locator("#detail")).to_contain_text("kryonix tenant adopt many-07")
        expect(page.locator("#detail .actions")).to_have_count(0)
        accessible(page)
    finally:
        signup.as_superuser("DELETE FROM tenants.rabbitmq_configurations WHERE cliente_id LIKE 'many-__'")


def test_buttons_follow_the_keys_scope_and_signing_out_forgets_it(page: Page, signup: Signup) -> None:
    signup.caller.ask("POST", "/v1/tenants", {"id": "by-scope", "modules": ["crm"], "plan": "basic"})
    eventually("it is there", lambda: signup.caller.http.get("/v1/tenants/by-scope").json().get("converged"))
    offered = {}
    for scope in ("read", "write", "admin"):
        page.get_by_role("button", name="Sign out").click()
        accessible(page)
        sign_in(page, signup.make_key(scope))
        expect(page.locator("#account")).to_contain_text(f"a {scope}")
        expect(page.get_by_label("API key")).to_be_hidden()
        expect(page.get_by_role("button", name="Add tenant")).to_be_visible(visible=scope != "read")
        page.get_by_role("link", name="by-scope", exact=True).click()
        expect(page.locator("#detail h1")).to_have_text("by-scope")
        offered[scope] = page.locator("#detail .actions strong").all_inner_texts()
        page.get_by_role("link", name="All tenants").click()
    assert offered["read"] == []
    assert offered["write"] == ["Change plan or modules", "Suspend", "Rotate credentials", "Converge"]
    assert offered["admin"] == [*offered["write"], "Offboard", "Remove now"]

    page.get_by_role("button", name="Sign out").click()
    assert page.evaluate("() => sessionStorage.length") == 0
    page.get_by_label("API key").fill("kx_nobody_…")  # as a mail program may write it
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("A valid API key is required")
    expect(page.locator("#content")).to_be_hidden()
    sign_in(page, key := signup.make_key("read"))
    page.evaluate("""() => sessionStorage.setItem("kryonix-credentials", "[]")""")
    assert (
        signup.project.kryonix(
            "signup", "keys", "revoke", key.split("_")[1], "--stack", signup.project.stack
        ).returncode
        == 0
    )
    expect(page.get_by_role("alert")).to_contain_text("This API key is no longer valid")
    assert page.evaluate("() => sessionStorage.length") == 0
    expect(page.get_by_label("API key")).to_be_focused()


def test_a_late_or_lost_answer_and_a_service_away_do_no_harm(page: Page, signup: Signup) -> None:
    signup.caller.done("POST", "/v1/tenants", {"id": "by-late", "modules": ["portal"], "plan": "basic"})
    declare(signup, "by-prompt")
    try:
        page.evaluate(
            """() => { const real = fetch; window.fetch = async (to, how) => {
                const answer = await real(to, how);
                if (to.includes("/by-late")) await new Promise((later) => setTimeout(later, 700));
                return answer;
            }; }"""
        )
        page.evaluate("() => { location.hash = '#/tenants/by-late' }")
        page.evaluate("() => new Promise((later) => setTimeout(later, 100))")
        page.evaluate("() => { location.hash = '#/tenants/by-prompt' }")
        page.evaluate("() => new Promise((later) => setTimeout(later, 1000))")
        assert page.locator("#detail h1").inner_text() == "by-prompt"
    finally:
        signup.as_superuser("DELETE FROM tenants.rabbitmq_configurations WHERE cliente_id = 'by-prompt'")
    page.evaluate("() => { location.hash = '#/tenants/nobody-there' }")
    expect(page.get_by_role("alert")).to_contain_text("There is no tenant 'nobody-there'")
    page.get_by_role("link", name="All tenants").click()

    lost: list[str] = []

    def lose(route: Route) -> None:
        lost.append(route.request.headers["idempotency-key"])
        if len(lost) > 1:
            route.continue_()
        else:
            route.fetch()
            route.abort("connectionreset")

    page.route("**/rotate", lose)
    row(page, "by-late").get_by_role("button", name="Rotate by-late").click()
    question(page).get_by_role("button", name="Rotate the credentials of by-late").click()
    expect(page.locator("#credentials[open]")).to_contain_text("kryonix_by-late.2")
    assert len(lost) == 2
    assert len(set(lost)) == 1
    page.get_by_role("button", name="I've saved these").click()
    page.unroute("**/rotate")

    # An operation that the page has seen in the list, and seen end, before the answer that accepted it.
    page.evaluate(
        """() => { const real = fetch; window.fetch = async (to, how) => {
            const answer = await real(to, how);
            if (to.endsWith("/rotate")) {
                window.rotation = answer.headers.get("Location").split("/").at(-1);
                document.dispatchEvent(new Event("changed"));
                const ended = () => document.querySelector(`[data-operation="${window.rotation}"].ended`);
                while (!ended()) await new Promise((later) => setTimeout(later, 50));
            }
            if (!window.rotation || !to.startsWith("/v1/tenants?")) return answer;
            const listed = await answer.json();
            listed.tenants.find(({ id }) => id === "by-late").operation = window.rotation;
            return new Response(JSON.stringify(listed));
        }; }"""
    )
    row(page, "by-late").get_by_role("button", name="Rotate by-late").click()
    question(page).get_by_role("button", name="Rotate the credentials of by-late").click()
    expect(page.locator("#credentials[open]")).to_contain_text("kryonix_by-late.3")
    page.get_by_role("button", name="I've saved these").click()

    page.route("**/v1/**", lambda route: route.fulfill(status=429, json={"detail": "the service is away"}))
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("The service is away")
    page.unroute("**/v1/**")
    expect(page.get_by_role("heading", name="Tenants", exact=True)).to_be_visible()  # by itself, with the same key


def test_a_failed_operation_leaves_no_credentials_to_be_saved(page: Page, signup: Signup) -> None:
    signup.caller.done("POST", "/v1/tenants", {"id": "by-failure", "modules": ["portal"], "plan": "basic"})
    rotation = signup.caller.ended(signup.caller.taken("POST", "/v1/tenants/by-failure/rotate"))
    failed = rotation | {"status": "failed", "problem": {"detail": "the broker is away"}}
    page.reload()
    page.route("**/rotate", lambda route: route.fulfill(status=202, json=failed | {"credentials_key": "of-none"}))
    page.route(f"**/{failed['id']}/events", lambda route: route.fulfill(body=f"data: {json.dumps(failed)}\n\n"))
    row(page, "by-failure").get_by_role("button", name="Rotate by-failure").click()
    question(page).get_by_role("button", name="Rotate the credentials of by-failure").click()
    expect(page.locator("#operations")).to_contain_text("the broker is away")
    kept = "() => sessionStorage.getItem('kryonix-credentials') !== null"
    eventually("nothing waits to be saved", lambda: not page.evaluate(kept))
    page.unroute_all()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_focused()  # without a question


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_and_a_keyboard_alone_are_enough(page: Page, signup: Signup, scheme: Literal["light", "dark"]) -> None:
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme=scheme)
    keys = page.keyboard
    page.get_by_role("button", name="Add tenant").focus()
    keys.press("Enter")
    expect(page.locator("#order-id")).to_be_focused()
    keys.type(f"by-keys-{scheme}")
    keys.press("Tab")
    keys.type("pro")
    keys.press("Tab")
    keys.press("Space")
    expect(page.locator("#capacity")).to_contain_text("15 of 200 queues")
    fits_width(page)
    accessible(page)
    expect(page.locator("#order-yes")).to_be_enabled()
    keys.press("Enter")
    credentials = page.locator("#credentials[open]")
    expect(credentials).to_contain_text(f"kryonix_by-keys-{scheme}")
    fits_width(page)
    for _ in range(6):
        keys.press("Tab")
    expect(page.locator("#credentials-saved")).to_be_focused()
    keys.press("Enter")
    expect(credentials).to_be_hidden()
    page.get_by_label("Search").fill("by-keys")
    link = row(page, f"by-keys-{scheme}").get_by_role("link")
    expect(link).to_be_visible()
    fits_width(page)
    accessible(page)
    link.focus()
    keys.press("Enter")
    expect(page.locator("#detail-heading")).to_be_focused()
    fits_width(page)
    accessible(page)
    page.get_by_role("button", name=re.compile("^Suspend")).focus()
    keys.press("Enter")
    expect(page.locator("#question-no")).to_be_focused()
    fits_width(page)
    keys.press("Tab")
    keys.press("Enter")
    expect(page.locator("#detail .heading .badge")).to_have_text("suspended")
    page.set_viewport_size(DESKTOP)
    page.emulate_media(color_scheme="light")


def test_the_page_loads_nothing_from_other_hosts(signup: Signup) -> None:
    folder = Path(__file__).parents[3] / "kryonix" / "signup" / "page"
    for file in [found for found in folder.rglob("*") if found.is_file()]:
        text = file.read_text()
        for allowed in ("http://www.w3.org/2000/svg", "// ", "https://github.com/leeoniya/uPlot"):
            text = text.replace(allowed, "")
        assert "//" not in text.replace("https?:\\/\\/", ""), file.name
        name = file.relative_to(folder).as_posix()
        sent = signup.caller.http.get(f"/{name if name != 'index.html' else ''}").raise_for_status()
        assert sent.headers["content-security-policy"].startswith("default-src 'self';")
