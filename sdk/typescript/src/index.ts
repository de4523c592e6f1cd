/** Send and consume the messages of a Kryonix tenant. */

export { type Catalog, parseCatalog } from "./catalog.ts";
export type { Compression } from "./compression.ts";
export * from "./errors.ts";
export type { Logger } from "./log.ts";
export type { Device, Headers, HeaderValue, Message, Outgoing, Route, SendOptions, SendResult } from "./message.ts";
export type * from "./modules.ts";
export { CATALOG } from "./modules.ts";
export { type Decision, type Exchange, type Router, Rules } from "./routing.ts";
