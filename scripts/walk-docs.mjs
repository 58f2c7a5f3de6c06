// Runs the commands of a document as they are written, but for the ports, and holds what they print against what the
// document shows: `node scripts/walk-docs.mjs docs/getting-started.md`.
//
// Each `sh` block is run, all of them by one shell, in order; a `text` block after one shows lines that it prints, in
// their order, with `...` for what differs from run to run. What is *not run here* is so marked in its text, up to the
// next heading or the next block.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const PORTS = ["8080", "12111"];
// Both programs listen at the documented ports by themselves.
const LISTEN = "export BILLHOOK_LISTEN=127.0.0.1:8080 SANDBOX_LISTEN=127.0.0.1:12111";
const PATIENCE_MS = 5 * 60 * 1000;

/** The blocks to run, each with the lines that it should print. */
export function blocksOf(markdown) {
  const blocks = [];
  let fence = null;
  let skipsBlock = false;
  let skipsSection = false;
  for (const line of markdown.split("\n")) {
    if (fence && line.startsWith("```")) {
      if (fence.kind === "sh" && !skipsBlock && !skipsSection) blocks.push({ script: fence.lines.join("\n"), shows: [] });
      if (fence.kind === "text" && blocks.length > 0) blocks.at(-1).shows.push(...fence.lines);
      fence = null;
      skipsBlock = false;
    } else if (fence) {
      fence.lines.push(line);
    } else if (line.startsWith("```")) {
      fence = { kind: line.slice(3).trim(), lines: [] };
    } else if (line.startsWith("#")) {
      skipsSection = false;
      skipsBlock = false;
    } else if (/\*not run here\*/i.test(line)) {
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

async function walk(document) {
  const dir = mkdtempSync(join(tmpdir(), "walk-docs-"));
  try {
    const ports = await freePorts();
    const here = (text) => ports.reduce((text, [documented, free]) => text.replaceAll(documented, free), text);
    const blocks = blocksOf(here(readFileSync(document, "utf8")));
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
    for (const document of process.argv.slice(2)) await walk(document);
  } catch (error) {
    console.error(error.message);
    process.exit(1);
  }
}
