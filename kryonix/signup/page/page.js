// The operators' page: signing in and out, and which view is shown.

import "./actions.js";
import { announce, may, remembered, signedIn, signIn, signOut } from "./api.js";
import { forgetCredentials, mayLeave, resumeCredentials, unsaved } from "./credentials.js";
import { resetDetail, showDetail } from "./detail.js";
import { byId, capital } from "./dom.js";
import { resetList, showList } from "./list.js";
import { forgetOperations } from "./operations.js";
import { openOrder, readCatalog } from "./order.js";

const NEWS_MS = 5000;
const VIEWS = { list: byId("list"), detail: byId("detail") };
let polled = false; // whether the failure on the screen is a poll's
let looking = 0; // requests under way for what is shown

function fail(error, poll = false) {
  polled = poll;
  const text = capital(error.message);
  if (byId("failure").textContent !== text) byId("failure").textContent = text; // read out once
  byId("failure").hidden = false;
}

function clearFailure() {
  byId("failure").hidden = true;
  byId("failure").textContent = "";
}

const tenantInAddress = () => /^#\/tenants\/([^/]+)$/.exec(location.hash)?.[1] ?? "";

async function refresh() {
  const tenant = tenantInAddress();
  looking += 1;
  await (tenant ? showDetail(tenant) : showList()).finally(() => { looking -= 1; });
  if (!signedIn() || tenant !== tenantInAddress()) return; // the answer came too late
  VIEWS.list.hidden = Boolean(tenant);
  VIEWS.detail.hidden = !tenant;
  document.title = tenant ? `${tenant} · Kryonix tenants` : "Kryonix tenants";
}

// What others do is seen too.
async function showNews() {
  if (document.hidden || !signedIn()) return;
  try {
    await refresh();
    if (polled) clearFailure();
  } catch (error) {
    if (signedIn()) fail(error, true);
  }
}

async function show() {
  const tenant = tenantInAddress();
  clearFailure();
  resetDetail();
  try {
    await refresh();
  } catch (error) {
    if (!signedIn() || tenant !== tenantInAddress()) return;
    VIEWS.list.hidden = true;
    VIEWS.detail.hidden = !tenant;
    resetDetail(true);
    fail(error, true); // until a poll succeeds: a new tenant is there once a worker has begun it
  }
  (byId(tenantInAddress() ? "detail-heading" : "list-heading") ?? byId("main")).focus();
}

async function open(key) {
  looking += 1;
  try {
    await signIn(key);
    await readCatalog();
  } catch (error) {
    landing(error, error.kind === "invalid-key");
    return;
  } finally {
    looking -= 1;
  }
  clearFailure();
  const { name, scope } = signedIn();
  byId("key-form").reset();
  byId("account-name").textContent = name;
  byId("account-scope").textContent = scope;
  byId("account").hidden = byId("content").hidden = false;
  byId("landing").hidden = true;
  byId("add").hidden = !may("write");
  await show();
  resumeCredentials();
}

// The key that a tab remembers is kept while the service does not answer.
function landing(error = null, forget = true) {
  signOut(forget);
  if (forget) forgetCredentials();
  forgetOperations();
  resetList();
  resetDetail();
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  byId("account").hidden = byId("content").hidden = true;
  if (error) fail(error);
  document.title = "Kryonix tenants";
  const asked = byId("landing").hidden || byId("key").value; // else by the clock, which does not move the focus
  byId("landing").hidden = false;
  if (asked) byId("key").focus();
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  clearFailure();
  open(byId("key").value.trim());
});

byId("sign-out").addEventListener("click", async () => {
  if (!(await mayLeave())) return;
  clearFailure();
  landing();
});

byId("add").addEventListener("click", () => openOrder());
addEventListener("hashchange", () => signedIn() && show());
document.addEventListener("changed", showNews);
document.addEventListener("failed", ({ detail }) => {
  fail(detail);
  announce("changed");
});
document.addEventListener("refused", () => {
  const lost = unsaved().join(", ");
  landing(new Error("This API key is no longer valid: it was revoked, or it has expired. Sign in with another one."
    + (lost && ` The new credentials of ${lost} were not saved, and can't be shown again: rotate them.`)));
});
setInterval(() => {
  if (looking) return;
  if (!signedIn() && remembered() && !byId("key").value) open(remembered());
  else showNews();
}, NEWS_MS);

if (remembered()) open(remembered());
else landing();
