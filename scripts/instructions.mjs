// Counts the instructions to verify, parse and apply one webhook (benches/instructions), and
// compares them with the committed baseline. With --renew it writes the baseline, and the counts in
// docs/performance.md:
//
//     node scripts/instructions.mjs [--renew]
//
// Valgrind does the counting. If it is not installed, nothing is counted. With other tools than the
// baseline's the counts differ by themselves, so they are printed but not compared. Exit codes: 0
// no change, or no comparison; 1 a count changed, or could not be taken.

import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const CRATE = "benches/instructions";
const BASELINE = `${CRATE}/baseline.json`;
const DOCUMENT = "docs/performance.md";

export const COUNTED = ["verify", "parse", "decide"];

/** Smaller differences come from the compiler's choices. Counts of the same program are nearly equal. */
export const TOLERANCE_PERCENT = 2;

/** Repetitions, so that a single reallocation does not matter. The program has an upper limit. */
const REPETITIONS = 100;

/** An error that the user can fix. Printed in one line, without a stack trace. */
class UserError extends Error {}

/** Each count's difference from the baseline in per cent. */
export function changes(baseline, counts) {
  return COUNTED.map((what) => ({ what, was: baseline[what], is: counts[what], percent: ((counts[what] - baseline[what]) * 100) / baseline[what] }));
}

/** True also for a count that is missing, here or in the baseline. */
export function isChange({ percent }) {
  return !(Math.abs(percent) <= TOLERANCE_PERCENT);
}

/** The document with these counts in its table. */
export function withCounts(markdown, counts) {
  return COUNTED.reduce((text, what) => text.replace(rowOf(what), `$1${grouped(counts[what])} |`), markdown);
}

const rowOf = (what) => new RegExp(`^(\\| \`${what}\` \\| )[\\d,]* \\|`, "m");

const grouped = (count) => count.toLocaleString("en-US");

/** The count in valgrind's stderr. */
export function parseCount(stderr) {
  const count = Number(stderr.match(/Collected : (\d+)$/m)?.[1]);
  if (!(count > 0)) throw new UserError(`valgrind printed no count:\n${stderr}`);
  return count;
}

// ---------------------------------------------------------------------------------------------------------------------

function main() {
  const { renew } = parseArgs({ options: { renew: { type: "boolean", default: false } } }).values;
  process.chdir(fileURLToPath(new URL("..", import.meta.url)));
  const valgrind = versionOf("valgrind", "--version");
  if (!valgrind) {
    const missing = "skipped: valgrind is not installed (Debian: sudo apt-get install valgrind)";
    if (renew) throw new UserError(missing);
    return console.log(missing);
  }
  const tools = { compiler: compiler(), libc: versionOf("getconf", "GNU_LIBC_VERSION"), valgrind, processor: processor() };
  const program = build();
  const counts = Object.fromEntries(COUNTED.map((what) => [what, count(program, what)]));
  return renew ? writeBaseline(tools, counts) : compare(tools, counts);
}

/** Undefined if the program is not installed. */
function versionOf(program, argument) {
  const { status, stdout } = spawnSync(program, [argument], { encoding: "utf8" });
  return status === 0 ? stdout.trim() : undefined;
}

function compiler() {
  const output = execFileSync("rustc", ["--version", "--verbose"], { encoding: "utf8" });
  const [release, host] = ["release", "host"].map((name) => output.match(new RegExp(`^${name}: (.*)$`, "m"))?.[1]);
  return `rustc ${release}, ${host}`;
}

/** The processor features by which the C library chooses how to copy memory. */
const COPY_FEATURES = ["avx2", "erms", "fsrm"];

function processor() {
  const flags = readFileSync("/proc/cpuinfo", "utf8").match(/^flags\s*: (.*)$/m)?.[1].split(" ") ?? [];
  return `a processor with ${COPY_FEATURES.filter((flag) => flags.includes(flag)).join(", ") || "nothing of its own"}`;
}

/** Builds the program with the service's versions of the dependencies. */
function build() {
  copyFileSync("Cargo.lock", `${CRATE}/Cargo.lock`);
  const target = join(process.env.CARGO_TARGET_DIR ?? "target", "instructions");
  const cargo = ["build", "--release", "--manifest-path", `${CRATE}/Cargo.toml`, "--target-dir", target];
  if (spawnSync("cargo", cargo, { stdio: "inherit" }).status !== 0) throw new UserError(`${CRATE} does not build`);
  return join(target, "release", "instructions");
}

/** The instructions of one repetition. The difference of two runs excludes the program's start and end. */
function count(program, what) {
  const [none, all] = [0, REPETITIONS].map((times) => {
    const callgrind = ["--tool=callgrind", "--callgrind-out-file=/dev/null", program, what, String(times)];
    const { status, stderr, error } = spawnSync("valgrind", callgrind, { encoding: "utf8" });
    if (status !== 0) throw new UserError(`${what} cannot be counted: ${error ?? stderr}`);
    return parseCount(stderr);
  });
  return Math.round((all - none) / REPETITIONS);
}

function writeBaseline(tools, counts) {
  writeFileSync(BASELINE, `${JSON.stringify({ tools, counts }, null, 2)}\n`);
  writeFileSync(DOCUMENT, withCounts(readFileSync(DOCUMENT, "utf8"), counts));
  for (const what of COUNTED) console.log(`${what.padEnd(8)}${grouped(counts[what]).padStart(12)}`);
  console.log(`Updated ${BASELINE} and ${DOCUMENT}: commit them`);
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
    const differences = other.map((tool) => `${tools[tool]} instead of ${baseline.tools[tool]}`).join(", ");
    return console.log(`Not compared, because the baseline was counted with other tools: ${differences}`);
  }
  const changed = all.filter(isChange).map(({ what }) => what);
  if (changed.length > 0) {
    const names = changed.join(", ");
    throw new UserError(`More than ${TOLERANCE_PERCENT} % from the baseline: ${names}. If this is intended, run make instructions-baseline and commit it`);
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  try {
    main();
  } catch (error) {
    console.error(error instanceof UserError ? error.message : error);
    process.exit(1);
  }
}
