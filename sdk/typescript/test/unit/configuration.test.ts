import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { afterAll, expect, test } from "vitest";
import { type AddressOptions, findAddress } from "../../src/configuration.ts";
import { ConfigurationError } from "../../src/errors.ts";

const folder = mkdtempSync(join(tmpdir(), "kryonix-"));
afterAll(() => rmSync(folder, { recursive: true }));

const uri = "amqp://kryonix_acme:s%2Fcret@broker.example.com/%2Fcliente_acme";
const find = (options: AddressOptions, environment = {}) => findAddress(options, environment);

function file(content: unknown, mode = 0o600): string {
  const path = join(folder, `${Math.random()}.json`);
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
  chmodSync(path, mode);
  return path;
}

test("a URI has everything", () => {
  const address = find({ amqpUri: uri, managementUrl: "http://broker.example.com:15672/" });
  expect(address).toMatchObject({ scheme: "amqp", username: "kryonix_acme", tenantId: "acme", external: false });
  expect(address.nodes).toEqual([{ host: "broker.example.com", port: 5672 }]);
  expect(address.managementUrls).toEqual(["http://broker.example.com:15672"]);
  expect(address.password()).toBe("s/cret");
});

test("no secret of an address is shown", () => {
  const address = find({ amqpUri: uri });
  expect(inspect(address, { depth: 9, showHidden: true }) + JSON.stringify(address)).not.toContain("cret");
});

test("the first address found wins", () => {
  const outputs = file({ amqp_uri: uri.replaceAll("acme", "other") });
  const environment = { KRYONIX_AMQP_URI: uri.replaceAll("acme", "third"), KRYONIX_OUTPUTS: outputs };
  expect(find({ amqpUri: uri, outputs }, environment).tenantId).toBe("acme");
  expect(find({ outputs }, environment).tenantId).toBe("other");
  expect(find({}, environment).tenantId).toBe("third");
  expect(find({}, { KRYONIX_OUTPUTS: outputs }).tenantId).toBe("other");
});

test("a platform's file has addresses and a CA", () => {
  const outputs = file({
    amqp_addresses: ["one.example.com:5671", "two.example.com", "[::1]:5673"],
    management_url: "https://one.example.com:15671",
    management_urls: ["https://one.example.com:15671", "https://two.example.com:15671"],
    ca_certificate: "PEM",
    tenants: { acme: { amqp_uri: uri.replace("amqp:", "amqps:").replace("broker", "one") }, other: {} },
  });
  const address = find({ outputs, tenant: "acme" });
  expect(address.nodes.map(({ host, port }) => `${host} ${port}`)).toEqual([
    "one.example.com 5671",
    "two.example.com 5671",
    "::1 5673",
  ]);
  expect(address.managementUrls).toHaveLength(2);
  expect(address.caCertificate).toBe("PEM");
  expect(() => address.tls()).toThrow("the CA to trust is not a certificate");
});

test("the environment's addresses are for a source without any", () => {
  const environment = { KRYONIX_AMQP_ADDRESSES: "one:1, two:2," };
  expect(find({ amqpUri: uri }, environment).nodes).toHaveLength(3);
  const outputs = file({ amqp_uri: uri, amqp_addresses: ["own:5672"] });
  expect(find({ outputs }, environment).nodes.map((node) => node.host)).toEqual(["broker.example.com", "own"]);
});

test("a tenant with a certificate logs in with it", () => {
  const secure = "amqps://kryonix_acme@broker.example.com/%2Fcliente_acme";
  const outputs = file({ amqp_uri: secure, client_certificate: "CERT", client_key: "KEY", password: "figures" });
  const address = find({ outputs });
  expect(address.external).toBe(true);
  expect(address.password()).toBe("figures");
  expect(() => address.tls()).toThrow("the client certificate can't be used");
  expect(() =>
    find({
      outputs: file({
        amqp_uri: secure.replace("amqps", "amqp"),
        client_certificate: "C",
        client_key: "K",
        password: "x",
      }),
    }),
  ).toThrow("a client certificate needs TLS");
});

test.each([
  ["mailto:x", "the AMQP URI is not a valid URI"],
  ["http://kryonix_acme:secret@broker/%2Fcliente_acme", "the AMQP URI is incomplete"],
  ["amqp://kryonix_acme@broker/%2Fcliente_acme", "the AMQP URI is incomplete"],
  ["amqps://kryonix_acme@broker/%2Fcliente_acme", "use its whole file of credentials"],
  ["amqp://kryonix_acme:secret@one,two/%2Fcliente_acme", "the AMQP URI names several hosts"],
  ["amqp://kryonix_acme:secret@broker/", "the vhost '' of the AMQP URI is not a tenant's vhost"],
  ["amqp://kryonix_acme:secret@broker/%2F", "the vhost '/' of the AMQP URI"],
  ["amqp://kryonix_acme:a/secret@broker/%2Fcliente_acme", "the AMQP URI"],
  ["amqp://kryonix_acme:a#secret@broker/%2Fcliente_acme", "the AMQP URI"],
  ["amqp://kryonix_acme:a?secret@broker/%2Fcliente_acme", "the AMQP URI"],
  ["amqp://kryonix_acme:secret@broker:99999/%2Fcliente_acme", "the AMQP URI is not a valid URI"],
])("a wrong URI is refused without its password: %#", (amqpUri, text) => {
  expect(() => find({ amqpUri })).toThrow(ConfigurationError);
  expect(() => find({ amqpUri })).toThrow(text);
  expect(() => find({ amqpUri })).not.toThrow("secret");
});

test.each([
  [() => ({}), "no broker address"],
  [() => ({ outputs: "/nowhere.json" }), "cannot read '/nowhere.json': No such file or directory"],
  [() => ({ outputs: folder }), "Is a directory"],
  [() => ({ outputs: file("{") }), "is not JSON"],
  [() => ({ outputs: file({}) }), "has no tenant credentials"],
  [() => ({ outputs: file({ tenants: { acme: { amqp_uri: "[secret]" } } }) }), "was written without secrets"],
  [() => ({ outputs: file({ tenants: { acme: {}, other: {} } }) }), "has 2 tenants: acme, other"],
  [() => ({ outputs: file({ tenants: { acme: {} } }), tenant: "acne" }), "did you mean 'acme'?"],
  [() => ({ outputs: file({ amqp_uri: uri }, 0o644) }), "has mode 644: other users can read it. Run `chmod 600"],
  [() => ({ amqpUri: uri, tenant: "other" }), "tenant 'other' is not the one of the AMQP URI, 'acme'"],
  [() => ({ amqpUri: uri, managementUrl: "http://user:pass@broker" }), "the management URL is not a valid address"],
  [() => ({ amqpUri: uri, addresses: ["amqp://x:y@z"] }), "addresses: is not the HOST:PORT of a node"],
  [
    () => ({ amqpUri: uri, addresses: [{ host: "h", password: "p" }] as never }),
    "addresses: Object is not the HOST:PORT",
  ],
  [() => ({ amqpUri: uri, addresses: ["one:0:2"] }), "addresses: 'one:0:2' is not the HOST:PORT"],
  [() => ({ amqpUri: uri, addresses: "one:1" as never }), "addresses: string is not a list"],
  [() => ({ amqpUri: uri, caFile: "/nowhere.pem" }), "cannot read the CA file '/nowhere.pem'"],
  [() => ({ amqpUri: 7 as never }), "amqpUri: number is not text"],
])("a wrong source is refused with what to do: %#", (options, text) => {
  const given = options();
  expect(() => find(given)).toThrow(ConfigurationError);
  expect(() => find(given)).toThrow(text);
});

test("a group may read a file of credentials", () => {
  expect(find({ outputs: file({ amqp_uri: uri }, 0o640) }).tenantId).toBe("acme");
});
