// Runs the commands of the documents as they are written, but for the ports, and holds what they print against what the
// documents show: all of them, or `node scripts/walk-docs.mjs docs/getting-started.md`.
//
// Each `sh` block is run, all of a document's by one shell, in order; a `text` block after one shows lines that it prints,
// in their order, with `...` for what differs from run to run. What is *not run here* is so marked in its text, up to the
// next heading or the next block. Where a document begins with the demo, a demo of the walk's own runs beside it.

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

/** What stands by itself, and what is typed beside the demo of `make run`. Of all others each block is marked. */
export const ALONE = [
  "docs/getting-started.md",
  "docs/commands.md",
  "docs/migrating.md",
  "docs/metrics.md",
  "docs/tokens.md",
  "docs/compose.md",
];
export const BESIDE_THE_DEMO = ["README.md", "docs/tracing.md"];

const PORTS = ["8080", "12111", "9464"];
// Both programs listen at the documented ports by themselves.
const LISTEN = "export BILLHOOK_LISTEN=127.0.0.1:8080 SANDBOX_LISTEN=127.0.0.1:12111";
const PATIENCE_MS = 2 * 60 * 1000;

/** Where the walk's own demo keeps its files; the reader's is in .demo, with its logs in logs. */
const DEMO = ".demo/walk-docs";
const DEMO_START_MS = 60 * 1000;

/** The blocks to run, each with the lines that it should print. */
export function blocksOf(markdown) {
  const blocks = [];
  let fence = null;
  let skipsBlock = false;
  let skipsSection = false;
  for (const written of markdown.split("\n")) {
    // A block may belong to an item of a list.
    const line = fence ? written.replace(fence.indent, "") : written.trimStart();
    if (fence && line.startsWith("```")) {
      if (fence.kind === "sh" && !skipsBlock && !skipsSection) blocks.push({ script: fence.lines.join("\n"), shows: [] });
      if (fence.kind === "text" && blocks.length > 0) blocks.at(-1).shows.push(...fence.lines);
      fence = null;
      skipsBlock = false;
    } else if (fence) {
      fence.lines.push(line);
    } else if (line.startsWith("```")) {
      fence = { kind: line.slice(3).trim(), lines: [], indent: written.match(/^\s*/)[0] };
    } else if (line.startsWith("#")) {
      skipsSection = false;
      skipsBlock = false;
    } else if (/\*not run here\.?\*/i.test(line)) {
      if (/^All of this is/.test(line)) skipsSection = true;
      else skipsBlock = true;
    }
  }
  return blocks;
}

/** The first line shown that what was printed does not have, in order; none if it has all. */
export function missingLine(shows, printed) {
  let rest = printed.split("\n");
  for (const shown of shows) {
    const words = shown.split("...").map((text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    const pattern = new RegExp(`^${words.join(".*")}$`);
    const at = rest.findIndex((line) => pattern.test(line));
    if (at < 0) return shown;
    rest = rest.slice(at + 1);
  }
  return undefined;
}

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return String(port);
}

/** The documented ports, each with one that is free here. */
async function freePorts() {
  return Promise.all(PORTS.map(async (port) => [`:${port}`, `:${await freePort()}`]));
}

function run(script, dir) {
  const file = join(dir, "walk.sh");
  writeFileSync(file, script);
  return new Promise((resolve) => {
    // A group of its own, so that what the document leaves running ends with it.
    const shell = spawn("bash", [file], { detached: true, stdio: ["ignore", "inherit", "inherit"] });
    const end = () => process.kill(-shell.pid, "SIGKILL");
    const late = setTimeout(end, PATIENCE_MS);
    shell.on("exit", (code) => {
      clearTimeout(late);
      try {
        end();
      } catch {
        // Nothing was left running.
      }
      resolve(code ?? 1);
    });
  });
}

/** The demo, where the documents have it but for its ports and its directory; and how it ends. */
async function startDemo() {
  const told = `${DEMO}/system.json`;
  rmSync(told, { force: true });
  const demo = spawn("node", ["scripts/demo.mjs", "--aside", "walk-docs", "--no-build"], { stdio: ["ignore", "ignore", "inherit"] });
  const ended = new Promise((resolve) => demo.on("exit", resolve));
  for (const begun = Date.now(); !existsSync(told); ) {
    if (demo.exitCode !== null || Date.now() - begun > DEMO_START_MS) throw new Error("the demo does not start");
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const { service, sandbox } = JSON.parse(readFileSync(told, "utf8"));
  const port = (url) => `:${new URL(url).port}`;
  const places = [[".demo/", `${DEMO}/`], ["logs/", `${DEMO}/logs/`], [":8080", port(service)], [":12111", port(sandbox)]];
  return {
    places,
    stop: async () => {
      demo.kill("SIGTERM");
      await ended;
    },
  };
}

/** Walks documents beside one demo, which stands for the `make run` that they begin with. */
async function walkBesideTheDemo(documents) {
  const demo = await startDemo();
  try {
    for (const document of documents) await walk(document, demo.places);
  } finally {
    await demo.stop();
  }
}

async function walk(document, places) {
  const dir = mkdtempSync(join(tmpdir(), "walk-docs-"));
  try {
    const all = places ?? (await freePorts());
    const here = (text) => all.reduce((text, [documented, here]) => text.replaceAll(documented, here), text);
    const blocks = blocksOf(here(readFileSync(document, "utf8"))).filter(({ script }) => !(places && script === "make run"));
    const parts = blocks.map(({ script }, index) => `step=${index + 1}\n{\n${script}\n} > '${join(dir, String(index))}'`);
    const failed = `trap '[ $? -eq 0 ] || echo "step $step failed" >&2' EXIT`;
    const code = await run(["set -euo pipefail", failed, here(LISTEN), ...parts].join("\n"), dir);
    if (code !== 0) throw new Error(`${document}: a command failed`);
    for (const [index, { script, shows }] of blocks.entries()) {
      const printed = readFileSync(join(dir, String(index)), "utf8");
      const missing = missingLine(shows, printed);
      if (missing !== undefined) {
        throw new Error(`${document} shows what is not printed: ${missing}\nby:\n${script}\nwhich printed:\n${printed}`);
      }
    }
    console.log(`${document}: ${blocks.length} blocks run as written`);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  try {
    const asked = process.argv.slice(2);
    const isWanted = (document) => asked.length === 0 || asked.includes(document);
    for (const document of ALONE.filter(isWanted)) await walk(document);
    const beside = BESIDE_THE_DEMO.filter(isWanted);
    if (beside.length > 0) await walkBesideTheDemo(beside);
  } catch (error) {
    console.error(error.message);
    process.exit(1);
  }
}
