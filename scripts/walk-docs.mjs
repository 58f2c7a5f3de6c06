// Runs the commands of the documents as written, except for the ports, and compares their output
// with the documents: all of them, or `node scripts/walk-docs.mjs docs/getting-started.md`.
//
// One shell runs all `sh` blocks of a document, in order. A `text` block after one shows lines that
// it must print, in order, with `...` for text that differs from run to run. The words
// *not run here* exclude the next block or, as "All of this is *not run here*", the rest of the
// section. Documents that start with the demo run beside a demo of their own.

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

/** Documents that run by themselves, and those that run beside `make run`. All blocks of other documents must be marked. */
export const STANDALONE = [
  "docs/getting-started.md",
  "docs/commands.md",
  "docs/migrating.md",
  "docs/metrics.md",
  "docs/tokens.md",
  "docs/compose.md",
];
export const WITH_DEMO = ["README.md", "docs/api.md", "docs/logs.md", "docs/tracing.md"];

const PORTS = ["8080", "12111", "9464"];
// The documented ports are the defaults of both programs, so that the documents do not set them.
const LISTEN = "export BILLHOOK_LISTEN=127.0.0.1:8080 SANDBOX_LISTEN=127.0.0.1:12111";
const DOCUMENT_TIMEOUT_MS = 2 * 60 * 1000;

/** The files of the demo that this script starts. Those of `make run` are in .demo and logs. */
const DEMO = ".demo/walk-docs";
const DEMO_START_TIMEOUT_MS = 60 * 1000;

/** The blocks to run, each with the lines that it must print. */
export function blocksOf(markdown) {
  const blocks = [];
  let fence = null;
  let skipsBlock = false;
  let skipsSection = false;
  for (const written of markdown.split("\n")) {
    // A block inside a list item is indented.
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

/** The first shown line that is not in the output, in order. Undefined if none is missing. */
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

/** Pairs of a documented port and a free one. */
async function freePorts() {
  return Promise.all(PORTS.map(async (port) => [`:${port}`, `:${await freePort()}`]));
}

function run(script, dir) {
  const file = join(dir, "walk.sh");
  writeFileSync(file, script);
  return new Promise((resolve) => {
    // In its own process group, so that background processes of the document are killed too.
    const shell = spawn("bash", [file], { detached: true, stdio: ["ignore", "inherit", "inherit"] });
    const killGroup = () => process.kill(-shell.pid, "SIGKILL");
    const timeout = setTimeout(killGroup, DOCUMENT_TIMEOUT_MS);
    shell.on("exit", (code) => {
      clearTimeout(timeout);
      try {
        killGroup();
      } catch {
        // No process was left.
      }
      resolve(code ?? 1);
    });
  });
}

/** Starts a demo. Returns the replacements of its documented ports and directories, and `stop`. */
async function startDemo() {
  const systemFile = `${DEMO}/system.json`;
  rmSync(systemFile, { force: true });
  const demo = spawn("node", ["scripts/demo.mjs", "--aside", "walk-docs", "--no-build"], { stdio: ["ignore", "ignore", "inherit"] });
  const ended = new Promise((resolve) => demo.on("exit", resolve));
  for (const started = Date.now(); !existsSync(systemFile); ) {
    if (demo.exitCode !== null || Date.now() - started > DEMO_START_TIMEOUT_MS) throw new Error("the demo does not start");
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const { service, sandbox } = JSON.parse(readFileSync(systemFile, "utf8"));
  const port = (url) => `:${new URL(url).port}`;
  const replacements = [[".demo/", `${DEMO}/`], ["logs/", `${DEMO}/logs/`], [":8080", port(service)], [":12111", port(sandbox)]];
  return {
    replacements,
    stop: async () => {
      demo.kill("SIGTERM");
      await ended;
    },
  };
}

/** Walks documents beside one demo, which replaces the `make run` that they start with. */
async function walkWithDemo(documents) {
  const demo = await startDemo();
  try {
    for (const document of documents) await walk(document, demo.replacements);
  } finally {
    await demo.stop();
  }
}

async function walk(document, demoReplacements) {
  const dir = mkdtempSync(join(tmpdir(), "walk-docs-"));
  try {
    const replacements = demoReplacements ?? (await freePorts());
    const replace = (text) => replacements.reduce((text, [from, to]) => text.replaceAll(from, to), text);
    const isRun = ({ script }) => !(demoReplacements && script === "make run");
    const blocks = blocksOf(replace(readFileSync(document, "utf8"))).filter(isRun);
    const parts = blocks.map(({ script }, index) => `step=${index + 1}\n{\n${script}\n} > '${join(dir, String(index))}'`);
    const onExit = `trap '[ $? -eq 0 ] || echo "step $step failed" >&2' EXIT`;
    const code = await run(["set -euo pipefail", onExit, replace(LISTEN), ...parts].join("\n"), dir);
    if (code !== 0) throw new Error(`${document}: a command failed`);
    for (const [index, { script, shows }] of blocks.entries()) {
      const printed = readFileSync(join(dir, String(index)), "utf8");
      const missing = missingLine(shows, printed);
      if (missing !== undefined) {
        throw new Error(`${document} shows a line that is not printed: ${missing}\nby:\n${script}\nwhich printed:\n${printed}`);
      }
    }
    console.log(`${document}: ${blocks.length} blocks run as written`);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  try {
    const named = process.argv.slice(2);
    const isNamed = (document) => named.length === 0 || named.includes(document);
    for (const document of STANDALONE.filter(isNamed)) await walk(document);
    const withDemo = WITH_DEMO.filter(isNamed);
    if (withDemo.length > 0) await walkWithDemo(withDemo);
  } catch (error) {
    console.error(error.message);
    process.exit(1);
  }
}
