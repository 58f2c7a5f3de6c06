import assert from "node:assert/strict";
import { test } from "node:test";

import { blocksOf, missingLine } from "./walk-docs.mjs";

const fenced = (kind, text) => `\`\`\`${kind}\n${text}\n\`\`\``;

test("each block is run with what it shows, but for what is not run here", () => {
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

test("what is shown must be printed, in order, with dots for what differs", () => {
  const printed = "Endpoint we_1 posts.\nnoise\nDone (really).\n";
  assert.equal(missingLine(["Endpoint we_... posts.", "Done (really)."], printed), undefined);
  assert.equal(missingLine(["Done (really).", "Endpoint we_... posts."], printed), "Endpoint we_... posts.");
  assert.equal(missingLine(["Endpoint we_2 posts."], printed), "Endpoint we_2 posts.");
});
