import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import type { BrowserContext } from "@playwright/test";
import react from "@vitejs/plugin-react";
import { build } from "vite";

import { expect, test } from "./stage";

const FRONTEND = fileURLToPath(new URL("..", import.meta.url));

/** What the README tells an application to write. */
const README_EXAMPLE = /```tsx\n(.*?)```/s.exec(readFileSync(join(FRONTEND, "README.md"), "utf8"))?.[1] ?? "";

const SESSION = "declare const session: { token: (wish: { fresh: boolean }) => Promise<string> };\n";

/** Makes an application that has installed the package, as it would be published, and does what the README tells. */
function makeApplication(dir: string, apiBase: string): void {
  const installed = join(dir, "node_modules/billhook-billing-page");
  mkdirSync(installed, { recursive: true });
  execFileSync("npm", ["pack", "--silent", "--pack-destination", dir], { cwd: FRONTEND });
  const archive = readdirSync(dir).find((name) => name.endsWith(".tgz")) ?? "";
  execFileSync("tar", ["-xzf", archive, "--strip-components=1", "-C", installed], { cwd: dir });

  writeFileSync(join(dir, "package.json"), JSON.stringify({ name: "application", type: "module" }));
  writeFileSync(join(dir, "billing.tsx"), SESSION + README_EXAMPLE.replace("https://billing.example.com", apiBase));
  const main = `
    import { createRoot } from "react-dom/client";
    import { BillingRoute } from "./billing.js";
    const root = document.getElementById("root");
    if (root) createRoot(root).render(<BillingRoute />);`;
  writeFileSync(join(dir, "main.tsx"), main);
}

test("an application compiles with the package, strictly and by whatever rules its imports are resolved", () => {
  test.slow();
  expect(README_EXAMPLE.trimEnd().split("\n").length, "the README promises ten lines").toBeLessThanOrEqual(10);
  const dir = test.info().outputPath();
  makeApplication(dir, "");
  for (const [module, moduleResolution] of [
    ["NodeNext", "NodeNext"],
    ["ESNext", "Bundler"],
  ]) {
    const compilerOptions = {
      ...{ module, moduleResolution, target: "ES2023", lib: ["ES2023", "DOM"], jsx: "react-jsx" },
      ...{ strict: true, skipLibCheck: true, noEmit: true, types: [] },
    };
    writeFileSync(join(dir, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["main.tsx"] }));
    execFileSync(join(FRONTEND, "node_modules/.bin/tsc"), ["--project", dir], { stdio: "inherit" });
  }
});

test("the package works in an application that is not ours, and changes nothing around itself", async ({
  system,
  tenant,
  context,
}) => {
  test.slow();
  const dir = test.info().outputPath();
  makeApplication(dir, system.origin);
  await serve(context, dir);
  const token = system.token(tenant.name);
  await context.addInitScript((given) => Object.assign(window, { session: { token: () => given } }), token);
  const page = await context.newPage();
  await page.goto(`${system.origin}/settings/billing`);

  await page.getByRole("button", { name: "Upgrade" }).click();
  await page.getByRole("button", { name: "Pay", exact: true }).click();
  // Where a page comes after a redirect, it is the service's own.
  await page.waitForURL(`${system.origin}/settings/billing`);
  await page.goto(`${system.origin}/settings/billing`);
  await expect(page.getByRole("region", { name: "Pro", exact: true })).toBeVisible();

  // The application's bundler, set as it comes, has left both schemes as they were.
  for (const [colorScheme, paper] of [
    ["dark", "rgb(26, 32, 43)"],
    ["light", "rgb(255, 255, 255)"],
  ] as const) {
    await page.emulateMedia({ colorScheme });
    await expect(page.locator(".billhook-card")).toHaveCSS("background-color", paper);
  }

  // In the narrow column that it has here it takes all of it, though the window is wide.
  const [ours, column] = [await page.locator(".billhook").boundingBox(), await page.locator("#root").boundingBox()];
  expect(ours?.width).toBe(column?.width);
  await expect(page.getByRole("button", { name: "Manage subscription" })).toHaveCSS("padding-left", "12px");

  const styles = () =>
    page.evaluate(() => {
      const others = [...document.querySelectorAll("*")].filter((element) => !element.closest("head, #root"));
      return others.map((element) =>
        Array.from(getComputedStyle(element), (name) => getComputedStyle(element).getPropertyValue(name)).join(),
      );
    });
  // What is around it gets higher with it and without it.
  await page.locator("#root").evaluate((root) => (root.style.display = "none"));
  const withOurs = await styles();
  await page.evaluate(() => [...document.styleSheets].forEach((sheet) => (sheet.disabled = sheet.href !== null)));
  expect(await styles()).toEqual(withOurs);
});

/** Builds the application, and has the browser get it where the service would serve a page of its own. */
async function serve(context: BrowserContext, dir: string): Promise<void> {
  await build({
    ...{ root: dir, configFile: false, logLevel: "error", plugins: [react()] },
    build: { lib: { entry: join(dir, "main.tsx"), formats: ["es"], fileName: "main", cssFileName: "main" } },
    define: { "process.env.NODE_ENV": '"production"' },
  });
  const html = `<!doctype html>
    <html lang="en">
      <title>Settings</title>
      <style>:root { color-scheme: light dark } button { text-transform: uppercase }</style>
      <link rel="stylesheet" href="/application/main.css">
      <body>
        <h1>Settings</h1><h2>Of your shop</h2>
        <p>All of <a href="/">them</a>, <code>really</code>.</p>
        <dl><dt>Name</dt><dd>Acme</dd></dl>
        <button>Save</button> <select><option>One</option></select>
        <div style="display: flex; width: 20rem"><div id="root" style="width: 100%"></div></div>
        <script type="module" src="/application/main.js"></script>
      </body>
    </html>`;
  await context.route(/\/settings\/billing(\?|$)/, (route) => route.fulfill({ contentType: "text/html", body: html }));
  await context.route("**/application/*", (route, request) =>
    route.fulfill({ path: join(dir, "dist", request.url().split("/").pop() ?? "") }),
  );
}
