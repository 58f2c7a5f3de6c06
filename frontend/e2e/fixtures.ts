import { type BrowserContext, expect, type Page, test as base } from "@playwright/test";

import { System } from "./system";

export { expect };

/** Each test has its own tenant. */
export interface Tenant {
  name: string;
  /** Opens the page in a new tab of the test's browser. */
  open: (query?: string) => Promise<Page>;
  /** Sets the tokens that the application returns, one for each request. The last one repeats. */
  hasTokens: (...tokens: string[]) => void;
}

let tenants = 0;

export const test = base.extend<{ tenant: Tenant; pageErrors: string[] }, { system: System }>({
  system: [
    // eslint-disable-next-line no-empty-pattern -- Playwright reads the fixture names from it
    async ({}, use, { parallelIndex }) => {
      const system = await System.start(`e2e-${parallelIndex}`);
      await use(system);
      await system.stop();
    },
    { scope: "worker", timeout: 60_000 },
  ],

  pageErrors: [
    async ({ context }, use) => {
      const pageErrors = watch(context);
      await use(pageErrors);
      expect(pageErrors).toEqual([]);
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

    await system.clearFaults();
  },
});

/** Collects what no page may do in any test: errors, policy violations, React warnings, tokens in URLs. */
function watch(context: BrowserContext): string[] {
  const pageErrors: string[] = [];
  context.on("weberror", (error) => pageErrors.push(String(error.error())));
  context.on("console", (message) => {
    if (/Content Security Policy|Warning:|unique "key"/.test(message.text())) pageErrors.push(message.text());
  });
  context.on("request", (request) => {
    // Matches a whole JWT. Shorter patterns sometimes match a random session id.
    if (/eyJ[\w-]+\.eyJ[\w-]+\./.test(request.url())) pageErrors.push(`a token in a URL: ${request.url()}`);
  });
  return pageErrors;
}
