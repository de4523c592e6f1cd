/** Send and consume the messages of a Kryonix tenant. */

export * from "./errors.ts";
export type { Device, Headers, HeaderValue, Message, Outgoing, Route, SendOptions, SendResult } from "./message.ts";
