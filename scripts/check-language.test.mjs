import assert from "node:assert/strict";
import { test } from "node:test";

import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const SCRIPT = fileURLToPath(new URL("check-language", import.meta.url));
// In two parts, so that the script does not report this file.
const WORD = "some" + "body";
const LONG = "a".repeat(61);

function check(files) {
  const dir = mkdtempSync(join(tmpdir(), "check-language-"));
  try {
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(dir, path)), { recursive: true });
      writeFileSync(join(dir, path), text);
    }
    const { status, stdout } = spawnSync(SCRIPT, [dir], { encoding: "utf8" });
    return [status, ...stdout.split("\n").filter(Boolean)];
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

test("words are reported with file and line, in any case", () => {
  const files = { "docs/a.md": `fine\n${WORD.toUpperCase()} else\n`, "docs/dist/a.md": WORD, "README.md": `${WORD}s` };
  assert.deepEqual(check(files), [1, `docs/a.md:2: say \`${WORD.toUpperCase()}\` in another way`]);
});

test("long names are reported for tests only", () => {
  const fn = (attribute, name) => `${attribute}\n/// Text.\nasync fn ${name}() {}\n`;
  const text = fn("#[test]", "short") + fn("", LONG) + fn("#[cfg(test)]", LONG) + fn('#[tokio::test(flavor = "a")]', LONG);
  const macro = `on_both_databases!(\n    short,\n    ${LONG},\n);\n`;
  const problem = `test name has 61 characters, at most 60: ${LONG}`;
  assert.deepEqual(check({ "tests/a.rs": text, "tests/b.rs": macro }), [1, `tests/a.rs:12: ${problem}`, `tests/b.rs:3: ${problem}`]);
});

test("plain texts and short names pass", () => {
  assert.deepEqual(check({ "src/a.rs": `#[test]\nfn ${LONG.slice(1)}() {}\n` }), [0]);
});
