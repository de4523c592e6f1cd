// The HTTP API, called with the key of whoever is signed in.

const STORED = "kryonix-api-key";
const LOOK_AGAIN_MS = 1500;
const AGAIN_MS = 500;
const PATIENCE_MS = 20_000; // the service gives up on its database before; its streams say more often that they live
const SCOPES = ["read", "write", "admin"];
const STREAMS = 3; // a browser opens six connections to a host, and the page needs some for its requests
let key = "";
let me = null;
let streams = 0;

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

export const signedIn = () => me;
export const remembered = () => sessionStorage.getItem(STORED);
export const may = (scope) => me !== null && SCOPES.indexOf(me.scope) >= SCOPES.indexOf(scope);

export async function signIn(presented) {
  key = /^[\x21-\x7e]*$/.test(presented) ? presented : "not a key"; // a header can't hold other characters
  me = await ask("GET", "/v1/key");
  sessionStorage.setItem(STORED, key);
  return me;
}

export function signOut(forget = true) {
  if (forget) sessionStorage.removeItem(STORED);
  [key, me] = ["", null];
}

export class Problem extends Error {
  constructor(problem) {
    super([problem.detail, ...(problem.errors || []).filter((line) => !problem.detail.startsWith(line))].join("\n"));
    this.problem = problem;
    this.kind = (problem.type || "").split(":").pop();
  }
}

// Tells the page that something has changed, or that the key is not valid any more.
export const announce = (name) => document.dispatchEvent(new Event(name));

export async function call(method, path, body, headers = {}, patience = () => AbortSignal.timeout(PATIENCE_MS)) {
  const sent = { Authorization: `Bearer ${key}`, ...headers };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  const send = () => fetch(path, { method, headers: sent, body: body === undefined ? undefined : JSON.stringify(body), signal: patience() });
  let response;
  try {
    // A change of the network ends the requests under way. Reading again does no harm, and an Idempotency-Key runs once.
    const again = method === "GET" || headers["Idempotency-Key"];
    response = await send().catch((error) => {
      if (!again || error.name === "TimeoutError") throw error;
      return pause(AGAIN_MS).then(send);
    });
  } catch (error) {
    throw new Error(error.name === "TimeoutError" ? "The service doesn't answer. What you see may be old."
      : "The service can't be reached. Check that it is running, then try again.");
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({ detail: `The service answered ${response.status}.` }));
  if (response.status === 401 && me) announce("refused");
  throw new Problem(problem);
}

export const ask = async (...request) => (await call(...request)).json();

// Requests an operation, once.
export const request = (method, path, body) => ask(method, path, body, { "Idempotency-Key": crypto.randomUUID?.() ?? random() });

// A page that is not served over TLS has no randomUUID.
const random = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

// Follows an operation to its end: live, or by asking again if there are many.
export async function follow(id, show) {
  for (;;) {
    try {
      const operation = streams < STREAMS ? await streamed(id, show) : await ask("GET", `/v1/operations/${id}`);
      if (operation) show(operation);
      if (operation?.ended_at) return operation;
    } catch (error) {
      if (!me || ["unknown-operation", "invalid-key"].includes(error.kind)) throw error;
    }
    await pause(LOOK_AGAIN_MS);
  }
}

// EventSource can't send a key, so the stream is read by hand.
async function streamed(id, show) {
  streams += 1;
  const ending = new AbortController();
  let waited;
  const wait = () => {
    clearTimeout(waited);
    waited = setTimeout(() => ending.abort(), PATIENCE_MS);
  };
  try {
    wait();
    const response = await call("GET", `/v1/operations/${id}/events`, undefined, {}, () => ending.signal);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let buffer = "";
    let last = null;
    for (;;) {
      const { value, done } = await reader.read();
      if (done || !me) return last;
      wait();
      const events = (buffer + value).split("\n\n");
      buffer = events.pop();
      for (const event of events) {
        const data = event.split("\n").find((line) => line.startsWith("data: "));
        if (!data) continue;
        const received = JSON.parse(data.slice(6));
        if (event.split("\n").includes("event: problem")) throw new Problem(received);
        last = received;
        show(last);
      }
    }
  } finally {
    clearTimeout(waited);
    ending.abort();
    streams -= 1;
  }
}
