import { execFile } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { VERSION } from "../../src/version.ts";

const root = join(import.meta.dirname, "../..");
const bin = join(root, "node_modules/.bin");
const folder = mkdtempSync(join(tmpdir(), "kryonix-package-"));
const installed = join(folder, "node_modules/@kryonix/sdk");
let tarball: string;
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

/** Run a command and return its output. */
async function run(cwd: string, command: string, ...args: string[]): Promise<string> {
  try {
    return (await promisify(execFile)(command, args, { cwd })).stdout;
  } catch (error) {
    const { stdout, stderr, message } = error as Error & { stdout: string; stderr: string };
    throw new Error(`${message}\n${stdout}\n${stderr}`);
  }
}

const USE = `
const broker = new MemoryBroker({ modules: ["crm"] });
const client = await broker.connect();
const result = await client.crm.send("leads.create", { name: "Ana" });
console.log(result.routingKey, VERSION);
await client.close();
`;

beforeAll(async () => {
  await run(root, join(bin, "tsdown"), "--logLevel", "error");
  const packed = await run(root, "npm", "pack", "--ignore-scripts", "--silent", "--pack-destination", folder);
  tarball = join(folder, packed.trim());
  await run(folder, "tar", "-xzf", tarball);
  mkdirSync(join(folder, "node_modules/@kryonix"), { recursive: true });
  cpSync(join(folder, "package"), installed, { recursive: true });
  // What npm would install beside it, and what a TypeScript program has.
  for (const name of [...Object.keys(manifest.dependencies), "@types/node", "undici-types"]) {
    const target = join(folder, "node_modules", name);
    mkdirSync(join(target, ".."), { recursive: true });
    symlinkSync(join(root, "node_modules", name), target);
  }
});

afterAll(() => rmSync(folder, { recursive: true }));

test("the package has one version, and one dependency besides OpenTelemetry's API", () => {
  expect(manifest.version).toBe(VERSION);
  expect(Object.keys(manifest.dependencies)).toEqual(["@opentelemetry/api", "amqplib"]);
});

test("the reference of the API can be made, and leaves out no class and no type", async () => {
  const out = join(folder, "reference");
  // Its links to sources need a repository that has a remote.
  await run(root, join(bin, "typedoc"), "--out", out, "--disableGit", "--sourceLinkTemplate", "{path}");
  expect(readFileSync(join(out, "classes/MessagingClient.html"), "utf8")).toContain("queueStats");
});

test("the package's tarball can be imported", async () => {
  writeFileSync(join(folder, "use.mjs"), `import { MemoryBroker, VERSION } from "@kryonix/sdk";${USE}`);
  expect(await run(folder, process.execPath, "use.mjs")).toBe(`crm.leads.create.medium ${VERSION}\n`);
});

test("the package's tarball can be required", async () => {
  const program = `const { MemoryBroker, VERSION } = require("@kryonix/sdk");(async () => {${USE}})();`;
  writeFileSync(join(folder, "use.cjs"), program);
  expect(await run(folder, process.execPath, "use.cjs")).toBe(`crm.leads.create.medium ${VERSION}\n`);
});

test("modules and CommonJS of one program share the package's classes", async () => {
  writeFileSync(join(folder, "library.cjs"), 'module.exports = require("@kryonix/sdk");');
  const program = `import * as sdk from "@kryonix/sdk";
    import library from "./library.cjs";
    console.log(new library.Reject("no") instanceof sdk.Reject, library.QueueFull === sdk.QueueFull);`;
  writeFileSync(join(folder, "both.mjs"), program);
  expect(await run(folder, process.execPath, "both.mjs")).toBe("true true\n");
});

test("a program without pg says what to install", async () => {
  const program = `import { MessagingClient, PostgresAudit } from "@kryonix/sdk";
    const audit = new PostgresAudit("postgresql://x");
    await MessagingClient.connect({ amqpUri: "amqp://kryonix_acme:b@127.0.0.1:1/%2Fcliente_acme", audit })
      .catch((error) => console.log(error.message));`;
  writeFileSync(join(folder, "audit.mjs"), program);
  expect(await run(folder, process.execPath, "audit.mjs")).toBe(
    "pg is not installed. Install it with `npm install pg`\n",
  );
});

const TYPED = `import { MessagingClient, type Message } from "@kryonix/sdk";
const client: MessagingClient = await MessagingClient.connect({ application: "shop" });
const { messageId }: { messageId: string } = await client.crm.send("leads.create", {});
messageId.trim();
// @ts-expect-error: there is no such action
await client.crm.send("leads.creat", {});
await client.whatsapp.consume("messages.send", async (message: Message<{ text: string }>) => {
  message.data.text.trim();
});
for await (const item of client.crm.stream("leads.create")) await item.done();
`;

/** Write the documentation's examples as files, each with the imports and the client that it lacks. */
function examples(): string[] {
  const page = readFileSync(join(root, "../../docs/typescript.md"), "utf8");
  const names = [...readFileSync(join(installed, "dist/index.mjs"), "utf8").matchAll(/^export \{(.*)\}/gm)].at(-1)?.[1];
  return [...page.matchAll(/^```ts\n(.*?)^```/gms)].map(([, example = ""], number) => {
    const imports = example.includes("import {") ? "" : `import {${names}} from "@kryonix/sdk";\n`;
    const client = example.includes("const client") ? "" : "declare const client: MessagingClient;\n";
    const file = `example-${number}.mts`;
    writeFileSync(join(folder, file), `${imports}${client}${example}`);
    return file;
  });
}

test("types are found by modules, by CommonJS, and by the documentation's examples", async () => {
  writeFileSync(join(folder, "use.mts"), TYPED);
  writeFileSync(
    join(folder, "use.cts"),
    'import sdk = require("@kryonix/sdk");\nexport default new sdk.MemoryBroker();\n',
  );
  const files = ["use.mts", "use.cts", ...examples()];
  expect(files.length).toBeGreaterThan(10);
  const options = ["--ignoreConfig", "--noEmit", "--strict", "--target", "es2022", "--types", "node"];
  await run(folder, join(bin, "tsc"), ...options, "--module", "nodenext", ...files);
});

test("publint and attw have nothing to say", async () => {
  await run(root, join(bin, "publint"), "--strict", tarball);
  await run(root, join(bin, "attw"), tarball);
});
