// Counts the instructions that it takes to verify, to read and to apply one webhook (benches/instructions), and holds them
// against the baseline that is committed; or, with --renew, makes them the baseline, there and in docs/performance.md:
//
//     node scripts/instructions.mjs [--renew]
//
// The counting is valgrind's, which is not installed only to look: without it nothing is counted. Other tools than the
// baseline's count otherwise by themselves: then the figures are told, and held against nothing.
// Exit code 0: nothing has changed, or nothing could be held against it. 1: something has, or could not be counted.

import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const CRATE = "benches/instructions";
const BASELINE = `${CRATE}/baseline.json`;
const DOCUMENT = "docs/performance.md";

export const COUNTED = ["verify", "parse", "decide"];

/** As much more or less is no change, but a compiler that went another way. Of one program the counts are nearly the same. */
export const TOLERANCE_PERCENT = 2;

/** How often each is done, so that one reallocation more or less does not count; no more than the program allows. */
const TIMES = 100;

/** Something that the reader can mend; told in one line, without a stack. */
class Trouble extends Error {}

/** By how many per cent each count is above the baseline, or, if negative, below. */
export function changes(baseline, counts) {
  return COUNTED.map((what) => ({ what, was: baseline[what], is: counts[what], percent: ((counts[what] - baseline[what]) * 100) / baseline[what] }));
}

/** Whether a change is more than chance. What the baseline does not have is. */
export function isChange({ percent }) {
  return !(Math.abs(percent) <= TOLERANCE_PERCENT);
}

/** A document with these counts in the rows of its table. */
export function withCounts(markdown, counts) {
  return COUNTED.reduce((text, what) => text.replace(rowOf(what), `$1${grouped(counts[what])} |`), markdown);
}

const rowOf = (what) => new RegExp(`^(\\| \`${what}\` \\| )[\\d,]* \\|`, "m");

const grouped = (count) => count.toLocaleString("en-US");

/** The count that valgrind told on stderr. */
export function toldBy(valgrind) {
  const count = Number(valgrind.match(/Collected : (\d+)$/m)?.[1]);
  if (!(count > 0)) throw new Trouble(`valgrind told no count:\n${valgrind}`);
  return count;
}

// ---------------------------------------------------------------------------------------------------------------------

function main() {
  const { renew } = parseArgs({ options: { renew: { type: "boolean", default: false } } }).values;
  process.chdir(fileURLToPath(new URL("..", import.meta.url)));
  const valgrind = versionOf("valgrind", "--version");
  if (!valgrind) {
    const missing = "valgrind is not installed, so that no instructions are counted (Debian: sudo apt-get install valgrind)";
    if (renew) throw new Trouble(missing);
    return console.log(missing);
  }
  const tools = { compiler: compiler(), libc: versionOf("getconf", "GNU_LIBC_VERSION"), valgrind, processor: processor() };
  const program = build();
  const counts = Object.fromEntries(COUNTED.map((what) => [what, count(program, what)]));
  return renew ? write(tools, counts) : compare(tools, counts);
}

/** What a program says of its version; nothing where there is no such program. */
function versionOf(program, argument) {
  const { status, stdout } = spawnSync(program, [argument], { encoding: "utf8" });
  return status === 0 ? stdout.trim() : undefined;
}

function compiler() {
  const told = execFileSync("rustc", ["--version", "--verbose"], { encoding: "utf8" });
  const [release, host] = ["release", "host"].map((name) => told.match(new RegExp(`^${name}: (.*)$`, "m"))?.[1]);
  return `rustc ${release}, ${host}`;
}

/** What a processor may have by which the C library chooses how to copy memory. */
const CHOSEN_BY = ["avx2", "erms", "fsrm"];

function processor() {
  const flags = readFileSync("/proc/cpuinfo", "utf8").match(/^flags\s*: (.*)$/m)?.[1].split(" ") ?? [];
  return `a processor with ${CHOSEN_BY.filter((flag) => flags.includes(flag)).join(", ") || "nothing of its own"}`;
}

/** Builds the program, with the dependencies in the versions that the service has. */
function build() {
  copyFileSync("Cargo.lock", `${CRATE}/Cargo.lock`);
  const target = join(process.env.CARGO_TARGET_DIR ?? "target", "instructions");
  const cargo = ["build", "--release", "--manifest-path", `${CRATE}/Cargo.toml`, "--target-dir", target];
  if (spawnSync("cargo", cargo, { stdio: "inherit" }).status !== 0) throw new Trouble(`${CRATE} does not build`);
  return join(target, "release", "instructions");
}

/** The instructions of doing it once. Starting and ending the program is in both counts, and in no difference. */
function count(program, what) {
  const [none, all] = [0, TIMES].map((times) => {
    const callgrind = ["--tool=callgrind", "--callgrind-out-file=/dev/null", program, what, String(times)];
    const { status, stderr, error } = spawnSync("valgrind", callgrind, { encoding: "utf8" });
    if (status !== 0) throw new Trouble(`${what} cannot be counted: ${error ?? stderr}`);
    return toldBy(stderr);
  });
  return Math.round((all - none) / TIMES);
}

function write(tools, counts) {
  writeFileSync(BASELINE, `${JSON.stringify({ tools, counts }, null, 2)}\n`);
  writeFileSync(DOCUMENT, withCounts(readFileSync(DOCUMENT, "utf8"), counts));
  for (const what of COUNTED) console.log(`${what.padEnd(8)}${grouped(counts[what]).padStart(12)}`);
  console.log(`${BASELINE} and ${DOCUMENT} say so now: commit them`);
}

function compare(tools, counts) {
  const baseline = JSON.parse(readFileSync(BASELINE, "utf8"));
  const all = changes(baseline.counts, counts);
  for (const { what, was, is, percent } of all) {
    const change = `${percent < 0 ? "" : "+"}${percent.toFixed(1)} %`;
    console.log(`${what.padEnd(8)}${grouped(is).padStart(12)}   baseline ${grouped(was).padStart(12)}   ${change.padStart(9)}`);
  }
  const other = Object.keys(baseline.tools).filter((tool) => tools[tool] !== baseline.tools[tool]);
  if (other.length > 0) {
    const told = other.map((tool) => `${tools[tool]} instead of ${baseline.tools[tool]}`).join(", ");
    return console.log(`The baseline is of other tools, so that nothing is held against it: ${told}`);
  }
  const changed = all.filter(isChange).map(({ what }) => what);
  if (changed.length > 0) {
    const names = changed.join(", ");
    throw new Trouble(`More than ${TOLERANCE_PERCENT} % from the baseline: ${names}. If that is meant, run make instructions-baseline and commit it`);
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  try {
    main();
  } catch (error) {
    console.error(error instanceof Trouble ? error.message : error);
    process.exit(1);
  }
}
