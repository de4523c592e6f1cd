import { expect, test } from "vitest";
import { checkHandler, checkOptions, checkRoute } from "../../src/checks.ts";
import { ConfigurationError, UnknownRoute } from "../../src/errors.ts";
import { CATALOG } from "../../src/modules.ts";

const lead = { module: "crm", action: "leads.create", data: {} };
const check =
  (options: object, id: unknown = "m-1") =>
  () =>
    checkOptions({ ...lead, ...options }, id);

test("an unknown name is refused with the nearest one", () => {
  expect(() => checkRoute(CATALOG, "crmm", "leads.create")).toThrow(
    "unknown module 'crmm'. Did you mean 'crm'? Allowed: crm,",
  );
  expect(() => checkRoute(CATALOG, "crm", "leads.creat")).toThrow("Did you mean 'leads.create'?");
  expect(() => checkRoute(CATALOG, "toString", "x")).toThrow(UnknownRoute);
  expect(() => checkRoute(CATALOG, undefined, "x")).toThrow("unknown module undefined");
});

test.each([
  [{ priority: 11 }, "priority: 11 is not a whole number from 0 to 10"],
  [{ priority: 1.5 }, "priority"],
  [{ priority: "5" }, "priority: '5'"],
  [{ device: "phone" }, "device: 'phone' is not one of mobile, web, unknown"],
  [{ expires: 0 }, "expires: 0 is not a valid time"],
  [{ expires: 0.0001 }, "not between a millisecond and a year"],
  [{ headers: { "kryonix-x": 1 } }, "reserved by the SDK"],
  [{ headers: { CC: ["a"] } }, "reserved by the broker"],
  [{ headers: { "x-first-death-queue": 1 } }, "reserved by the broker"],
  [{ headers: { "a\nb": 1 } }, "is not printable text"],
  [{ headers: { a: Number.NaN } }, "the header 'a' cannot be sent: number NaN"],
  [{ headers: { a: new Date(-1) } }, "is not a header value"],
  [{ headers: { a: 2n ** 63n } }, "is not a header value"],
  [{ headers: { a: undefined } }, "is not a header value"],
  [{ headers: { a: "x".repeat(65_536) } }, "the headers are 65,542 bytes, more than 65,536"],
  [{ headers: new Map() }, "headers: Map is not a plain object"],
  [{ headers: [] }, "headers: Array is not a plain object"],
])("a wrong option is refused: %#", (options, text) => {
  expect(check(options)).toThrow(ConfigurationError);
  expect(check(options)).toThrow(text);
});

test("every kind of header that AMQP has is taken", () => {
  const headers = { t: "é", n: null, b: true, i: 2 ** 53, l: -(2n ** 63n), f: 0.5, d: new Date(0), a: [1, { b: [] }] };
  expect(check({ headers })).not.toThrow();
});

test.each(["", "a\u0000", "é".repeat(128), 7, null])("a wrong id is refused: %j", (id) => {
  expect(check({}, id)).toThrow("is not printable text of 1 to 255 bytes");
});

test("headers nested more than ten levels deep are refused", () => {
  let value: unknown = 1;
  for (let level = 0; level < 9; level++) value = [value];
  expect(check({ headers: { a: value } })).not.toThrow();
  expect(check({ headers: { a: [value] } })).toThrow("nested deeper than 10");
});

test("only a function of one message is a handler", () => {
  expect(() => checkHandler(async () => {})).not.toThrow();
  expect(() => checkHandler({})).toThrow("handler: Object is not a function");
  expect(() => checkHandler(class Handler {})).toThrow("Handler is a class");
  expect(() => checkHandler((_one: unknown, _two: unknown) => {})).toThrow("only argument");
});
