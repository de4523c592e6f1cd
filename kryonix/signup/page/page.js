// The operators' page: signing in and out, and which view is shown.

import "./actions.js";
import { announce, may, remembered, signedIn, signIn, signOut } from "./api.js";
import { forgetCredentials, mayLeave, resumeCredentials } from "./credentials.js";
import { resetDetail, showDetail } from "./detail.js";
import { byId } from "./dom.js";
import { resetList, showList } from "./list.js";
import { forgetOperations } from "./operations.js";
import { openOrder, readCatalog } from "./order.js";

const NEWS_MS = 5000;
const VIEWS = { list: byId("list"), detail: byId("detail") };
let polled = false; // whether the failure on the screen is a poll's

function fail(error, poll = false) {
  polled = poll;
  if (byId("failure").textContent !== error.message) byId("failure").textContent = error.message; // read out once
  byId("failure").hidden = false;
}

function clearFailure() {
  byId("failure").hidden = true;
  byId("failure").textContent = "";
}

const tenantInAddress = () => decodeURIComponent(/^#\/tenants\/([^/]+)$/.exec(location.hash)?.[1] ?? "");

async function refresh() {
  const tenant = tenantInAddress();
  await (tenant ? showDetail(tenant) : showList());
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
  clearFailure();
  resetDetail();
  try {
    await refresh();
  } catch (error) {
    VIEWS.list.hidden = VIEWS.detail.hidden = true;
    fail(error, true); // until a poll succeeds: a new tenant is there once a worker has begun it
  }
  (byId(tenantInAddress() ? "detail-heading" : "list-heading") ?? byId("main")).focus();
}

async function open(key) {
  clearFailure();
  try {
    await signIn(key);
    await readCatalog();
  } catch (error) {
    landing(error, error.kind === "invalid-key");
    return;
  }
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

// A service that does not answer is asked again after a reload, with the same key.
function landing(error = null, forget = true) {
  signOut(forget);
  forgetOperations();
  resetList();
  resetDetail();
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  byId("account").hidden = byId("content").hidden = true;
  byId("landing").hidden = false;
  if (error) fail(error);
  byId("key").focus();
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  open(byId("key").value.trim());
});

byId("sign-out").addEventListener("click", async () => {
  if (!(await mayLeave())) return;
  forgetCredentials();
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
document.addEventListener("refused", () =>
  landing(new Error("This API key is no longer valid: it was revoked, or it has expired. Sign in with another one.")));
setInterval(showNews, NEWS_MS);

if (remembered()) open();
else landing();
