import { type BrowserContext, expect, type Page, test as base } from "@playwright/test";

import { System } from "./system";

export { expect };

/** A tenant of its own for each test, and the page as its user sees it. */
export interface Tenant {
  name: string;
  /** Opens the page, in a tab of the test's browser. */
  open: (query?: string) => Promise<Page>;
  /** What the application has to give when it is asked for a token. */
  hasTokens: (...tokens: string[]) => void;
}

let tenants = 0;

export const test = base.extend<{ tenant: Tenant; mishaps: string[] }, { system: System }>({
  system: [
    // eslint-disable-next-line no-empty-pattern -- Playwright reads from it which fixtures are needed
    async ({}, use, { parallelIndex }) => {
      const system = await System.start(`e2e-${parallelIndex}`);
      await use(system);
      await system.stop();
    },
    { scope: "worker", timeout: 60_000 },
  ],

  mishaps: [
    async ({ context }, use) => {
      const mishaps = watch(context);
      await use(mishaps);
      expect(mishaps).toEqual([]);
    },
    { auto: true },
  ],

  tenant: async ({ system, context }, use, { parallelIndex }) => {
    const name = `tenant-${parallelIndex}-${(tenants += 1)}`;
    let tokens = [system.token(name)];
    await context.route("**/demo-tokens.json", (route) => {
      const token = tokens.length > 1 ? tokens.shift() : tokens[0];
      return route.fulfill({ json: [{ tenant: name, about: "a test", token }] });
    });

    await use({
      name,
      hasTokens: (...given) => (tokens = given),
      open: async (query = "") => {
        const page = await context.newPage();
        await page.goto(`${system.origin}/billing${query}`);
        return page;
      },
    });

    await system.heal();
  },
});

/** What no page of ours may do, whatever the test is about. */
function watch(context: BrowserContext): string[] {
  const mishaps: string[] = [];
  context.on("weberror", (error) => mishaps.push(String(error.error())));
  context.on("console", (message) => {
    if (/Content Security Policy|Warning:|unique "key"/.test(message.text())) mishaps.push(message.text());
  });
  context.on("request", (request) => {
    // A whole JWT: three letters of one also stand in a random session id now and then.
    if (/eyJ[\w-]+\.eyJ[\w-]+\./.test(request.url())) mishaps.push(`a token in a URL: ${request.url()}`);
  });
  return mishaps;
}
