// What can be done to a tenant: by which keys, in which states, and what is asked before.

import { announce, may, request, signedIn } from "./api.js";
import { expectCredentials } from "./credentials.js";
import { question, queues } from "./dialogs.js";
import { moment, plural } from "./dom.js";
import { watch } from "./operations.js";
import { openOrder } from "./order.js";

const path = (tenant) => `/v1/tenants/${encodeURIComponent(tenant.id)}`;
const STANDING = ["active", "suspended"];

export const ACTIONS = {
  change: {
    label: "Change plan or modules", short: "Change", scope: "write", states: STANDING,
    about: "Add or remove modules, or move to another plan. Messages are never deleted unasked.",
    run: (tenant) => openOrder(tenant),
  },
  suspend: {
    label: "Suspend", scope: "write", states: ["active"], danger: true, quick: true,
    about: "Close the tenant's connections and refuse new ones. Nothing is deleted.",
    text: (tenant) => [`All open connections of ${tenant.id} are closed at once, and new ones are refused until you resume it.`,
      "Its queues, messages and credentials are kept."],
    send: (tenant) => ["POST", `${path(tenant)}/suspend`],
  },
  resume: {
    label: "Resume", scope: "write", states: ["suspended", "offboarding"], quick: true,
    about: "Let the tenant's applications connect again, and undo an offboarding.",
    send: (tenant) => ["POST", `${path(tenant)}/resume`],
  },
  rotate: {
    label: "Rotate credentials", short: "Rotate", verb: "Rotate the credentials of", scope: "write", states: STANDING, quick: true,
    about: "Create a new user and password. The current ones keep working during the overlap.",
    text: (tenant) => [`${tenant.id} gets a new user and password, shown to you once.`,
      tenant.retiring_until
        ? "An earlier rotation's overlap is not over: its old credentials end now, and connections that use them are closed."
        : "",
      "Open connections stay open. When the overlap ends (24 hours by default), those that still use the current "
        + "credentials are closed."],
    send: (tenant) => ["POST", `${path(tenant)}/rotate`],
  },
  converge: {
    label: "Converge", scope: "write", states: [...STANDING, "offboarding"],
    about: "Apply the desired state again, after a failed operation or a change made by hand on the broker.",
    text: (tenant) => [`The broker's objects of ${tenant.id} are compared with its desired state and repaired. Bindings, `
      + "policies and permissions added by hand are removed.", "Open connections of an active tenant stay open."],
    send: (tenant) => ["POST", `${path(tenant)}/converge`],
  },
  offboard: {
    label: "Offboard", scope: "admin", states: STANDING, danger: true,
    about: "Keep a final export, suspend the tenant, and remove it after the grace period.",
    text: (tenant) => [`All open connections of ${tenant.id} are closed at once, and new ones are refused.`,
      "A final export is kept. After the grace period (30 days by default) the tenant is removed with its queues and "
        + "messages; until then, Resume undoes this."],
    send: (tenant) => ["DELETE", path(tenant)],
  },
  remove: {
    label: "Remove now", verb: "Remove", scope: "admin", states: [...STANDING, "offboarding"], danger: true, typed: true,
    about: "Delete the tenant for good, without a grace period. Refused while its queues hold messages.",
    text: (tenant) => [`All open connections of ${tenant.id} are closed, and its virtual host, queues and users are deleted. `
      + "This can't be undone.", "If queues hold messages, nothing is removed and you are shown how many."],
    send: (tenant) => ["DELETE", `${path(tenant)}?now=true`],
  },
};

const changeable = (tenant) => tenant.managed_by === "own stack";

export const offered = (tenant) =>
  Object.entries(ACTIONS).filter(([, action]) =>
    changeable(tenant) && !tenant.operation && may(action.scope) && action.states.includes(tenant.status));

// Asks where there is a question, and starts the operation.
export async function perform(name, tenant) {
  const action = ACTIONS[name];
  if (action.run) return action.run(tenant);
  const asked = action.text && {
    title: `${action.verb || action.label} ${tenant.id}?`,
    text: action.text(tenant),
    yes: `${action.verb || action.label} ${tenant.id}`,
    danger: action.danger,
    confirm: action.typed ? tenant.id : "",
  };
  if (asked && !(await question(asked))) return undefined;
  return start(...action.send(tenant));
}

// Starts an operation, and shows it.
export async function start(method, to, body) {
  try {
    const operation = await request(method, to, body);
    if (signedIn()) accepted(operation);
  } catch (error) {
    document.dispatchEvent(new CustomEvent("failed", { detail: error }));
  }
}

export function accepted(operation) {
  watch(operation);
  if (operation.credentials_key) expectCredentials(operation);
  announce("changed");
}

// Repeats a refused operation, and accepts the loss of the messages that it was refused for.
export async function acceptLoss(operation) {
  const { tenant, kind, problem } = operation;
  const total = Object.values(problem.queues).reduce((sum, count) => sum + count, 0);
  const removal = kind === "remove";
  const yes = await question({
    title: `Delete ${plural(total, "message")} of ${tenant}?`,
    text: [queues(problem.queues), removal
      ? `${tenant} is then removed with all its queues and users, and its connections are closed. This can't be undone.`
      : "These queues are deleted with their messages, and their consumers are stopped; other connections stay open. "
        + "This can't be undone."],
    yes: removal ? `Delete the messages and remove ${tenant}` : "Delete the messages and change",
    danger: true,
    confirm: tenant,
  });
  if (!yes) return;
  const to = path({ id: tenant });
  if (removal) await start("DELETE", `${to}?now=true&accept_loss=true`);
  else {
    const allowed = new Set([...(operation.request.allow_delete || []), ...Object.keys(problem.queues)]);
    await start("PATCH", to, { ...operation.request, allow_delete: [...allowed] });
  }
}

document.addEventListener("accept-loss", (event) => acceptLoss(event.detail));
document.addEventListener("accepted", (event) => accepted(event.detail));

export const removal = (tenant) => tenant.remove_after && ["removed after ", moment(tenant.remove_after)];
