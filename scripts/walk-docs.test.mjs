import assert from "node:assert/strict";
import { test } from "node:test";

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";

import { blocksOf, missingLine, STANDALONE, WITH_DEMO } from "./walk-docs.mjs";

const fenced = (kind, text) => `\`\`\`${kind}\n${text}\n\`\`\``;

test("each block is run with its shown lines, unless it is marked as not run", () => {
  const markdown = [
    "# One",
    fenced("sh", "echo a"),
    fenced("text", "a"),
    "By hand. (*Not run here*.)",
    fenced("sh", "echo by hand"),
    fenced("sh", "echo b"),
    "## Two",
    "All of this is *not run here*.",
    fenced("sh", "echo never"),
    fenced("sh", "echo never"),
    "## Three",
    fenced("json", "{}"),
    fenced("sh", "echo c"),
  ].join("\n");
  assert.deepEqual(blocksOf(markdown), [
    { script: "echo a", shows: ["a"] },
    { script: "echo b", shows: [] },
    { script: "echo c", shows: [] },
  ]);
});

test("a block in a list item is run without its indentation", () => {
  const markdown = ["1. One:", "", "   ```sh", "   echo a |", "     cat", "   ```", "2. Two. (*Not run here*.)", "", "   ```sh", "   echo b", "   ```"];
  assert.deepEqual(blocksOf(markdown.join("\n")), [{ script: "echo a |\n  cat", shows: [] }]);
});

test("each block of each document is run or marked as not run here", () => {
  const documents = execFileSync("git", ["ls-files", "*.md"], { encoding: "utf8" }).trim().split("\n");
  const walked = [...STANDALONE, ...WITH_DEMO];
  for (const document of walked) assert.ok(documents.includes(document), document);
  for (const document of documents.filter((document) => !walked.includes(document))) {
    assert.deepEqual(blocksOf(readFileSync(document, "utf8")), [], `${document} is neither walked nor marked`);
  }
});

test("shown lines must be printed in order, with dots for any text", () => {
  const printed = "Endpoint we_1 posts.\nnoise\nDone (really).\n";
  assert.equal(missingLine(["Endpoint we_... posts.", "Done (really)."], printed), undefined);
  assert.equal(missingLine(["Done (really).", "Endpoint we_... posts."], printed), "Endpoint we_... posts.");
  assert.equal(missingLine(["Endpoint we_2 posts."], printed), "Endpoint we_2 posts.");
});
