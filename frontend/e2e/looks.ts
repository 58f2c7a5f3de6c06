import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

import { expect, type Page } from "@playwright/test";
import type { AxeResults } from "axe-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const LOOKS = [
  { look: "light-wide", colorScheme: "light", width: 1100, textPercent: 100 },
  { look: "dark-wide", colorScheme: "dark", width: 1100, textPercent: 100 },
  { look: "light-narrow", colorScheme: "light", width: 320, textPercent: 100 },
  { look: "dark-narrow", colorScheme: "dark", width: 320, textPercent: 100 },
  { look: "large", colorScheme: "light", width: 480, textPercent: 200 },
] as const;

/** Holds the page, as it is now, against axe in every look; `SHOTS=directory` keeps a picture of each. */
export async function holdsInEveryLook(page: Page, name: string): Promise<void> {
  for (const { look, colorScheme, width, textPercent } of LOOKS) {
    // A colour that is still fading over to another would be measured on its way.
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await page.setViewportSize({ width, height: 900 });
    await page.evaluate((percent) => (document.documentElement.style.fontSize = `${percent}%`), textPercent);
    expect(await violations(page), look).toEqual([]);
    expect(await overflow(page), `${look}: nothing is wider than the window`).toBe(0);
    const path = process.env.SHOTS && `${process.env.SHOTS}/${name}-${look}.png`;
    if (path) await page.screenshot({ path, fullPage: true });
  }
}

/** What axe finds wrong, each in a line. */
async function violations(page: Page): Promise<string[]> {
  await page.evaluate(AXE);
  const { violations: found } = await page.evaluate(() =>
    (globalThis as unknown as { axe: { run: () => Promise<AxeResults> } }).axe.run(),
  );
  return found.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html} ${failureSummary}`));
}

/** By how many pixels the page is wider than its window. */
function overflow(page: Page): Promise<number> {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
}
