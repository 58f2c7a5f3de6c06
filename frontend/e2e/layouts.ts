import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

import { expect, type Page } from "@playwright/test";
import type { AxeResults } from "axe-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const LAYOUTS = [
  { layout: "light-wide", colorScheme: "light", width: 1100, textPercent: 100 },
  { layout: "dark-wide", colorScheme: "dark", width: 1100, textPercent: 100 },
  { layout: "light-narrow", colorScheme: "light", width: 320, textPercent: 100 },
  { layout: "dark-narrow", colorScheme: "dark", width: 320, textPercent: 100 },
  { layout: "large", colorScheme: "light", width: 480, textPercent: 200 },
] as const;

/** Checks the current page with axe in every layout. `SHOTS=directory` saves a screenshot of each. */
export async function expectAccessibleInAllLayouts(page: Page, name: string): Promise<void> {
  for (const { layout, colorScheme, width, textPercent } of LAYOUTS) {
    // Without reduced motion, axe would measure colours during a transition.
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await page.setViewportSize({ width, height: 900 });
    await page.evaluate((percent) => (document.documentElement.style.fontSize = `${percent}%`), textPercent);
    expect(await violations(page), layout).toEqual([]);
    expect(await overflow(page), `${layout}: pixels wider than the window`).toBe(0);
    const path = process.env.SHOTS && `${process.env.SHOTS}/${name}-${layout}.png`;
    if (path) await page.screenshot({ path, fullPage: true });
  }
}

/** The violations that axe finds, one line each. */
async function violations(page: Page): Promise<string[]> {
  await page.evaluate(AXE);
  const { violations: found } = await page.evaluate(() =>
    (globalThis as unknown as { axe: { run: () => Promise<AxeResults> } }).axe.run(),
  );
  return found.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html} ${failureSummary}`));
}

/** The number of pixels by which the page is wider than its window. */
function overflow(page: Page): Promise<number> {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
}
