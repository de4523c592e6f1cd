/** Errors of amqplib, TLS and the operating system, sorted by remedy. */

import { AccessRefused, NotConnected } from "../errors.ts";
import { hostPort, type Node, placeOf } from "./node.ts";
import { Closed, SpeaksTls } from "./wire.ts";

const ACCESS_REFUSED = 403;
const NOT_ALLOWED = 530;
const NONE = "connection limit (0) is reached";
/** The broker's words where it does not know: another node may, or the same one soon. */
const UNKNOWN = "connection limit cannot be queried";

const REMEDY_SHUT =
  "An operator can check with `kryonix tenant list` whether it is suspended, and end that with " +
  "`kryonix tenant resume`. Otherwise close unused connections, and check user and vhost in the AMQP URI";
const REMEDY_TRUST =
  "Trusted are the CA of the credentials' file, or the one in caFile or KRYONIX_CA_FILE, or else the system's";
const REMEDY_OWN =
  "Use the newest file of `kryonix tenant credentials ID --output FILE`, and check the clocks. An operator issues " +
  "another certificate with `kryonix tenant rotate ID`";

const PLAIN = /WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|PACKET_LENGTH_TOO_LONG|UNKNOWN_PROTOCOL/;
/** A broker's alert on the certificate that the client shows. */
const OWN = /ALERT_(UNKNOWN_CA|BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_\w+)/;
const OWN_FAULTS: Readonly<Record<string, string>> = {
  UNKNOWN_CA: "wrong CA: none that the broker trusts issued it",
  CERTIFICATE_EXPIRED: "expired, or not yet valid",
  BAD_CERTIFICATE: "self-signed, or broken",
};

const WRONG_CA = [
  "wrong CA: no CA that is trusted here issued the certificate of",
  "Trust the platform's CA (`kryonix certificates ca print`), or check the address",
] as const;
const FAULTS: Readonly<Record<string, readonly [string, string]>> = {
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: WRONG_CA,
  UNABLE_TO_GET_ISSUER_CERT: WRONG_CA,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: WRONG_CA,
  SELF_SIGNED_CERT_IN_CHAIN: WRONG_CA,
  CERT_SIGNATURE_FAILURE: WRONG_CA,
  DEPTH_ZERO_SELF_SIGNED_CERT: [
    "self-signed, and not trusted itself: the certificate of",
    "Give the service a certificate of the platform's CA, or trust this one",
  ],
  CERT_HAS_EXPIRED: ["expired: the certificate of", "Renew it (`kryonix certificates renew`), and check the clocks"],
  CERT_NOT_YET_VALID: ["not yet valid: the certificate of", "Set the clocks of both machines"],
  ERR_TLS_CERT_ALTNAME_INVALID: [
    "wrong host: other names are on the certificate of",
    "Use an address that the certificate names, or have one issued that names this address",
  ],
};

/** Return the SDK's error for a failed connection. */
export function notConnected(node: Node, error: unknown): NotConnected {
  const place = placeOf(node);
  const text = error instanceof Error ? error.message : String(error);
  const code = String((error as { code?: unknown } | undefined)?.code ?? "");
  if (error instanceof Closed) {
    if (error.code === ACCESS_REFUSED) {
      return new AccessRefused(`${place} refuses the connection (${text})`, { cause: error });
    }
    if (error.code === NOT_ALLOWED && !text.includes(UNKNOWN)) {
      const suspended = text.includes(NONE) ? "the tenant is suspended: " : "";
      const reason = text.replace(/^NOT_ALLOWED - /, "");
      return new AccessRefused(`${place} does not let ${node.username} in: ${suspended}${reason}`, {
        remedy: REMEDY_SHUT,
        cause: error,
      });
    }
  }
  if (error instanceof SpeaksTls) {
    return new AccessRefused(`${place}: this port has TLS, and amqp:// is without it`, {
      remedy: "Write amqps:// in the AMQP URI, or use the port without TLS, 5672 by default",
    });
  }
  if (node.scheme === "amqps") return ofTls(node, error, code, text);
  return plainly(node, error, text);
}

function ofTls(node: Node, error: unknown, code: string, text: string): NotConnected {
  const place = placeOf(node);
  if (PLAIN.test(code) || PLAIN.test(text)) {
    const remedy = "Use the TLS port, 5671 by default, or amqp:// for a connection without TLS";
    const { reason = text } = error as { readonly reason?: string }; // OpenSSL's, without its file and line
    return new AccessRefused(`${place}: this port has no TLS (${reason})`, { remedy, cause: error });
  }
  const own = OWN.exec(code) ?? OWN.exec(text.toUpperCase().replaceAll(" ", "_"));
  if (own !== null) {
    const fault = OWN_FAULTS[own[1]!] ?? own[1]!.toLowerCase().replaceAll("_", " ");
    return new AccessRefused(`${place} refuses the client certificate: ${fault}`, { remedy: REMEDY_OWN, cause: error });
  }
  const fault = FAULTS[code];
  if (fault !== undefined) {
    const [problem, remedy] = fault;
    return new AccessRefused(`${place}: ${problem} ${hostPort(node)}`, {
      remedy: `${remedy}. ${REMEDY_TRUST}`,
      cause: error,
    });
  }
  if (/CERT/.test(code) || /certificate/i.test(text)) {
    return new AccessRefused(`the certificate of ${place} is not accepted (${text})`, {
      remedy: REMEDY_TRUST,
      cause: error,
    });
  }
  return plainly(node, error, text);
}

function plainly(node: Node, error: unknown, text: string): NotConnected {
  return new NotConnected(`no connection to ${placeOf(node)} (${text || "no reason is known"})`, { cause: error });
}

/** Return the broker's limit in bytes if it has closed a channel for a larger body. It concerns larger bodies only. */
export function tooLarge(error: Error): number | undefined {
  const found = /larger than (?:configured )?max size (\d+)/.exec(error.message);
  return found === null ? undefined : Number(found[1]);
}
