/** The broker's addresses and the tenant's credentials: from an AMQP URI, the environment, or a file. */

import { X509Certificate } from "node:crypto";
import { closeSync, fstatSync, openSync, readFileSync } from "node:fs";
import tls, { createSecureContext, type SecureContextOptions } from "node:tls";
import { checkText, shown, typeName } from "./checks.ts";
import { ConfigurationError } from "./errors.ts";
import { Names, tenantOfVhost } from "./naming.ts";
import { nearest } from "./nearest.ts";

export const URI_VARIABLE = "KRYONIX_AMQP_URI";
export const OUTPUTS_VARIABLE = "KRYONIX_OUTPUTS";
export const MANAGEMENT_VARIABLE = "KRYONIX_MANAGEMENT_URL";
/** `HOST:PORT` of each node, with commas between them. */
export const ADDRESSES_VARIABLE = "KRYONIX_AMQP_ADDRESSES";
export const CA_VARIABLE = "KRYONIX_CA_FILE";
/** A file with the tenant's certificate and its key (PEM), for a tenant that has no password. */
export const CERTIFICATE_VARIABLE = "KRYONIX_CLIENT_CERTIFICATE";

/** The command that writes a file of credentials. */
const WRITE_IT = "`kryonix tenant credentials ID --output FILE`";
const PORTS: Readonly<Record<string, number>> = { amqp: 5672, amqps: 5671 };
const EXTERNAL = "auth=EXTERNAL";
const REMEDY =
  "Write it as amqp://kryonix_TENANT:PASSWORD@HOST:5672/%2Fcliente_TENANT, " +
  "with special characters of the password escaped as %2F, %23, %3F, %40";
const REMEDY_CA =
  "Name a file with what `kryonix certificates ca print` prints, or leave it out to trust the system's CAs";
const REMEDY_NEITHER = `A tenant that logs in with a certificate has no password: use its whole file of credentials (${WRITE_IT})`;
const REMEDY_CERTIFICATE = `Take both from ${WRITE_IT}`;
const PEM = /^[\t\n\r\x20-\x7e]*$/;

/** A node's host and port for AMQP. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** Where a program finds its broker. Each default is from the environment. */
export interface AddressOptions {
  /** Default: KRYONIX_AMQP_URI. */
  readonly amqpUri?: string | undefined;
  /** A file written by `kryonix tenant credentials`. It is used instead of a URI. Default: KRYONIX_OUTPUTS. */
  readonly outputs?: string | undefined;
  /** Selects a tenant if the file has several. */
  readonly tenant?: string | undefined;
  /** For queue metrics. Default: KRYONIX_MANAGEMENT_URL, or the file's. */
  readonly managementUrl?: string | undefined;
  /** `HOST:PORT` of each of the broker's nodes. Default: the file's, or KRYONIX_AMQP_ADDRESSES. */
  readonly addresses?: readonly string[] | undefined;
  /** The CAs to trust (PEM) instead of the system's. Default: KRYONIX_CA_FILE, or the file's CA. */
  readonly caFile?: string | undefined;
}

/** A tenant's vhost on a broker, with credentials. Its secrets are not shown by console.log or JSON. */
export class Address {
  readonly scheme: "amqp" | "amqps";
  readonly username: string;
  readonly tenantId: string;
  /** Of each node, the URI's first. */
  readonly nodes: readonly HostPort[];
  readonly managementUrls: readonly string[];
  /** True for a login with the tenant's certificate. */
  readonly external: boolean;
  /** The CAs to trust (PEM); empty: the system's. */
  readonly caCertificate: string;
  readonly #password: string;
  readonly #certificate: string;
  readonly #key: string;

  constructor(parts: AddressParts) {
    this.scheme = parts.scheme;
    this.username = parts.username;
    this.tenantId = parts.tenantId;
    this.nodes = parts.nodes;
    this.managementUrls = parts.managementUrls;
    this.external = parts.external;
    this.caCertificate = parts.caCertificate;
    this.#password = parts.password;
    this.#certificate = parts.certificate;
    this.#key = parts.key;
  }

  /** The password; of a tenant that logs in with its certificate, the one for figures only. Never show it. */
  password(): string {
    return this.#password;
  }

  get vhost(): string {
    return new Names(this.tenantId).vhost;
  }

  /** Return what verifies the broker's certificate, and shows the tenant's if there is one. Throws ConfigurationError. */
  tls(): SecureContextOptions {
    if (this.scheme === "amqp" && !this.managementUrls.some((url) => url.startsWith("https:"))) return {};
    const options: SecureContextOptions = {};
    const ca = this.caCertificate === "" ? systemCas() : this.caCertificate;
    if (ca !== undefined) options.ca = ca;
    if (this.caCertificate !== "" && !isCertificate(this.caCertificate)) {
      throw new ConfigurationError("the CA to trust is not a certificate in PEM", { remedy: REMEDY_CA });
    }
    if (this.#certificate === "") return options;
    options.cert = this.#certificate;
    options.key = this.#key || this.#certificate;
    try {
      createSecureContext(options);
    } catch {
      // Without the cause: it may quote the key.
      const problem = "the client certificate can't be used: it is not a certificate with its own key, in PEM";
      throw new ConfigurationError(problem, { remedy: REMEDY_CERTIFICATE });
    }
    return options;
  }
}

/** Return the system's CAs. Node's own list, undefined, is for a machine without any, and for Node before 22.15. */
function systemCas(): string[] | undefined {
  const found = tls.getCACertificates?.("system") ?? [];
  return found.length > 0 ? found : undefined;
}

function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem).raw.length > 0;
  } catch {
    return false;
  }
}

interface AddressParts {
  readonly scheme: "amqp" | "amqps";
  readonly username: string;
  readonly password: string;
  readonly tenantId: string;
  readonly nodes: readonly HostPort[];
  readonly managementUrls: readonly string[];
  readonly external: boolean;
  readonly caCertificate: string;
  readonly certificate: string;
  readonly key: string;
}

type Fields = Readonly<Record<string, unknown>>;

/** Return the address of the URI, or else of the environment's URI, or of a file. Throws ConfigurationError. */
export function findAddress(options: AddressOptions, environment: NodeJS.ProcessEnv = process.env): Address {
  const { amqpUri, outputs, tenant } = options;
  for (const name of ["amqpUri", "outputs", "tenant", "managementUrl", "caFile"] as const)
    checkText(name, options[name]);
  const uri = amqpUri || (outputs ? undefined : environment[URI_VARIABLE]);
  if (uri) {
    const address = addressOf(uri, {}, {}, options, environment);
    if (tenant !== undefined && tenant !== address.tenantId) {
      const problem = `tenant '${tenant}' is not the one of the AMQP URI, '${address.tenantId}'`;
      throw new ConfigurationError(problem, { remedy: "Make them the same, or leave tenant out" });
    }
    return address;
  }
  const file = outputs || environment[OUTPUTS_VARIABLE];
  if (file) {
    const content = readOutputs(file);
    const fields = credentialsIn(content, tenant, shown(file));
    return addressOf(String(fields.amqp_uri), content, fields, options, environment);
  }
  const remedy = `Pass amqpUri, or set ${URI_VARIABLE}, or set ${OUTPUTS_VARIABLE} to a file written by ${WRITE_IT}`;
  throw new ConfigurationError("no broker address", { remedy });
}

/**
 * Return the address of a URI on the platform of these outputs. `fields` are the tenant's.
 *
 * What is given replaces what the outputs have, and so does the environment's CA file. The environment's addresses are
 * for outputs without any: a login must not go to another platform's nodes.
 */
function addressOf(
  uri: string,
  outputs: Fields,
  fields: Fields,
  options: AddressOptions,
  environment: NodeJS.ProcessEnv,
): Address {
  const login = loginOf(fields, environment);
  const parsed = parseUri(uri, login.certificate === "" ? undefined : login.password);
  // A URI with a password of its own counts.
  const isShown = login.certificate !== "" && parsed.password === login.password;
  const external = parsed.external || isShown;
  if (external && parsed.scheme !== "amqps") {
    const remedy = "Write the URI as amqps://, or use a tenant with a password";
    throw new ConfigurationError("a client certificate needs TLS, and the AMQP URI has none", { remedy });
  }
  const first = options.managementUrl || environment[MANAGEMENT_VARIABLE];
  const others = first ? [] : [outputs.management_url, ...listIn(outputs, "management_urls")];
  const urls = [first, ...others].filter((url) => url !== undefined && url !== null).map(managementUrl);
  const listed = (environment[ADDRESSES_VARIABLE] ?? "").split(",").map((each) => each.trim());
  const own = options.addresses ?? [];
  if (!Array.isArray(own))
    throw new ConfigurationError(`addresses: ${typeName(own)} is not a list`, { remedy: "Pass an array" });
  const places = [own, listIn(outputs, "amqp_addresses"), listed.filter(Boolean)].find((each) => each.length > 0) ?? [];
  const file = options.caFile || environment[CA_VARIABLE];
  return new Address({
    ...parsed,
    nodes: unique([parsed.node, ...places.map((each) => hostPort(each, PORTS[parsed.scheme]!))]),
    managementUrls: [...new Set(urls)],
    external,
    caCertificate: file ? readPem(file, `the CA file ${shown(file)}`, REMEDY_CA) : String(outputs.ca_certificate ?? ""),
    certificate: isShown ? login.certificate : "",
    key: isShown ? login.key : "",
  });
}

function listIn(fields: Fields, name: string): unknown[] {
  const value = fields[name];
  return Array.isArray(value) ? value : [];
}

function unique(nodes: readonly HostPort[]): HostPort[] {
  const byName = new Map(nodes.map((node) => [`${node.host}:${node.port}`, node]));
  return [...byName.values()];
}

/** Return the tenant's certificate, its key and the password for figures; empty if it logs in with a password. */
function loginOf(
  fields: Fields,
  environment: NodeJS.ProcessEnv,
): { certificate: string; key: string; password: string } {
  const file = environment[CERTIFICATE_VARIABLE];
  if (file) return { certificate: readPem(file, shown(file), REMEDY_CERTIFICATE), key: "", password: "" };
  const text = (name: string) => String(fields[name] ?? "");
  return { certificate: text("client_certificate"), key: text("client_key"), password: text("password") };
}

function readPem(file: string, what: string, remedy: string): string {
  let problem = "it is not PEM";
  try {
    const text = readFileSync(file, "latin1");
    if (PEM.test(text)) return text;
  } catch (error) {
    problem = reasonOf(error);
  }
  throw new ConfigurationError(`cannot read ${what}: ${problem}`, { remedy });
}

function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  const words: Readonly<Record<string, string>> = {
    ENOENT: "No such file or directory",
    EACCES: "Permission denied",
    EISDIR: "Is a directory",
  };
  return words[code ?? ""] ?? message;
}

interface ParsedUri {
  readonly scheme: "amqp" | "amqps";
  readonly node: HostPort;
  readonly username: string;
  readonly password: string;
  readonly tenantId: string;
  readonly external: boolean;
}

const URI = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/(?:([^/?#]*)@)?([^/?#@]*)(\/[^?#]*)?(?:\?([^#]*))?(?:#.*)?$/s;

/**
 * Parse an AMQP URI. Throws ConfigurationError, without any part that may be a password.
 *
 * One without a password, or with the query `auth=EXTERNAL`, is a tenant's that logs in with a certificate.
 * `figuresPassword` is that of its user for figures. An unescaped `/`, `#` or `?` in the password ends up in the port,
 * path or query.
 */
export function parseUri(uri: string, figuresPassword?: string): ParsedUri {
  const refuse = (problem: string, remedy = REMEDY): never => {
    throw new ConfigurationError(problem, { remedy });
  };
  const [, givenScheme = "", login, place = "", path = "", query = ""] =
    URI.exec(uri) ?? refuse("the AMQP URI is not a valid URI");
  if (place.includes(",")) {
    refuse(
      "the AMQP URI names several hosts",
      `Name one host, and all of them in ${ADDRESSES_VARIABLE} or \`addresses\``,
    );
  }
  const scheme = givenScheme.toLowerCase();
  const external = query.split("&").includes(EXTERNAL);
  const colon = login?.indexOf(":") ?? -1;
  const username = decoded(colon < 0 ? (login ?? "") : login!.slice(0, colon));
  const given = colon < 0 ? figuresPassword : decoded(login!.slice(colon + 1));
  const password = given ?? (external ? "" : undefined);
  const node = placeOf(place, PORTS[scheme]) ?? refuse("the AMQP URI is not a valid URI");
  if (!(scheme in PORTS) || node.host === "" || username === "" || password === undefined) {
    const without = scheme === "amqps" && node.host !== "" && username;
    refuse(
      "the AMQP URI is incomplete: it needs the scheme amqp or amqps, user, password and host",
      without ? `${REMEDY}. ${REMEDY_NEITHER}` : REMEDY,
    );
  }
  const vhost = decoded(path.slice(1));
  const tenantId = tenantOfVhost(vhost);
  if (tenantId === undefined) {
    const named = vhost.includes("@") ? "" : ` ${shown(vhost)}`;
    refuse(`the vhost${named} of the AMQP URI is not a tenant's vhost`);
  }
  return { scheme, node, username, password, tenantId, external } as ParsedUri;
}

/** Return a part of a URI without its escapes. A percent sign that begins none stays. */
function decoded(text: string): string {
  const parts = text
    .split(/(%[0-9A-Fa-f]{2})/)
    .map((part, at) => Buffer.from(at % 2 ? part.slice(1) : part, at % 2 ? "hex" : "utf8"));
  return Buffer.concat(parts).toString();
}

/** Return host and port of `HOST:PORT`, with an IPv6 address in brackets; undefined for anything else. */
function placeOf(place: string, usual: number | undefined): HostPort | undefined {
  const [, bracketed, plain, digits] = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:[\]]*))(?::(\d{0,5}))?$/.exec(place) ?? [];
  const host = (bracketed ?? plain)?.toLowerCase();
  const port = digits === undefined ? (usual ?? 0) : Number(digits);
  return host === undefined || port > 65_535 ? undefined : { host, port: port || (usual ?? 0) };
}

/** Return host and port of a node's address. Throws ConfigurationError. */
function hostPort(address: unknown, port: number): HostPort {
  const text = typeof address === "string" ? address : "";
  const found = /[\s/?#@]/.test(text) ? undefined : placeOf(text, port);
  if (found !== undefined && found.host !== "") return found;
  // Of text without a login, and of nothing else: an object may hold a password.
  const given = text === "" ? ` ${typeName(address)}` : text.includes("@") ? "" : ` ${shown(address)}`;
  const remedy = "Write one for each node, without a scheme or a login, as in broker-1.example.com:5671";
  throw new ConfigurationError(`addresses:${given} is not the HOST:PORT of a node`, { remedy });
}

/** Return the management API's address, without a login. Throws ConfigurationError. */
function managementUrl(url: unknown): string {
  try {
    const { protocol, hostname, username, password } = new URL(url as string);
    const isHttp = protocol === "http:" || protocol === "https:";
    if (isHttp && hostname !== "" && username === "" && password === "") return String(url).replace(/\/+$/, "");
  } catch {
    // It is refused below.
  }
  const remedy = "Write it as http://HOST:15672; the tenant's own login is used";
  throw new ConfigurationError("the management URL is not a valid address without a login", { remedy });
}

/** Return the fields of a tenant in stack outputs. Throws ConfigurationError. */
function credentialsIn(outputs: Fields, tenant: string | undefined, source: string): Fields {
  const { tenants } = outputs;
  if (!isFields(tenants) || Object.keys(tenants).length === 0) {
    throw new ConfigurationError(`${source} has no tenant credentials`, { remedy: `Write it with ${WRITE_IT}` });
  }
  const fields = tenants[chooseTenant(tenant, Object.keys(tenants), source)];
  const uri = isFields(fields) ? fields.amqp_uri : undefined;
  if (typeof uri !== "string" || !uri.startsWith("amqp")) {
    throw new ConfigurationError(`${source} was written without secrets`, { remedy: `Write it with ${WRITE_IT}` });
  }
  return fields as Fields;
}

/** Return the tenant of this id, or the only one. Throws ConfigurationError. */
function chooseTenant(wanted: string | undefined, known: readonly string[], source: string): string {
  const remedy = "Name one of them in the option `tenant`";
  if (wanted === undefined && known.length !== 1) {
    const names = [...known].sort().slice(0, 10).join(", ");
    throw new ConfigurationError(`${source} has ${known.length} tenants: ${names}`, { remedy });
  }
  const chosen = wanted ?? known[0]!;
  if (known.includes(chosen)) return chosen;
  throw new ConfigurationError(`${source} has no tenant ${shown(chosen)}; ${nearest(chosen, known)}`, { remedy });
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Return a file's content in the form of stack outputs, `{"tenants": {ID: {"amqp_uri": …}}}`.
 *
 * A file with one tenant's credentials (`kryonix tenant credentials`, `create`, `rotate`) becomes outputs with that
 * tenant only. A file that other users can read is refused; its group may: a container's secrets are mounted for it.
 */
export function readOutputs(file: string): Fields {
  const [text, mode] = readWithMode(file);
  const remedy = `Write it with ${WRITE_IT}`;
  let content: unknown;
  try {
    content = JSON.parse(text); // first: a file named by mistake holds no passwords
  } catch {
    throw new ConfigurationError(`${shown(file)} is not JSON`, { remedy });
  }
  if ((mode & 0o007) !== 0 && process.platform !== "win32") {
    const shownMode = (mode & 0o7777).toString(8).padStart(3, "0");
    const problem = `${shown(file)} holds passwords and has mode ${shownMode}: other users can read it`;
    const change = `Run \`chmod 600 ${file}\`, and change the passwords if others may have read them`;
    throw new ConfigurationError(problem, { remedy: change });
  }
  if (!isFields(content)) throw new ConfigurationError(`${shown(file)} has no tenant credentials`, { remedy });
  const tenant = "tenants" in content ? undefined : tenantIn(content);
  return tenant === undefined ? content : { ...content, tenants: { [tenant]: content } };
}

function readWithMode(file: string): [text: string, mode: number] {
  let opened: number | undefined;
  try {
    opened = openSync(file, "r");
    return [readFileSync(opened, "utf8"), fstatSync(opened).mode];
  } catch (error) {
    const remedy = `Name a readable file, or write it with ${WRITE_IT}`;
    throw new ConfigurationError(`cannot read ${shown(file)}: ${reasonOf(error)}`, { remedy, cause: error });
  } finally {
    if (opened !== undefined) closeSync(opened);
  }
}

/** Return the tenant id in the AMQP URI of the credentials. */
function tenantIn(credentials: Fields): string | undefined {
  const path = typeof credentials.amqp_uri === "string" ? (URI.exec(credentials.amqp_uri)?.[4] ?? "") : "";
  return tenantOfVhost(decoded(path.slice(1)));
}
