import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import type { BrowserContext } from "@playwright/test";
import react from "@vitejs/plugin-react";
import { build } from "vite";

import { expect, test } from "./fixtures";

const FRONTEND = fileURLToPath(new URL("..", import.meta.url));

const README_EXAMPLE = /```tsx\n(.*?)```/s.exec(readFileSync(join(FRONTEND, "README.md"), "utf8"))?.[1] ?? "";

const SESSION = "declare const session: { token: (options: { fresh: boolean }) => Promise<string> };\n";

/** Creates an application with the README's example and the installed package, as it would be published. */
function createApplication(dir: string, apiBase: string): void {
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

test("application compiles with the package", () => {
  test.slow();
  expect(README_EXAMPLE.trimEnd().split("\n").length, "lines of the README example").toBeLessThanOrEqual(10);
  const dir = test.info().outputPath();
  createApplication(dir, "");
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

test("package works in an application and keeps its styles", async ({ system, tenant, context }) => {
  test.slow();
  const dir = test.info().outputPath();
  createApplication(dir, system.origin);
  await serve(context, dir);
  const token = system.token(tenant.name);
  await context.addInitScript((given) => Object.assign(window, { session: { token: () => given } }), token);
  const page = await context.newPage();
  await page.goto(`${system.origin}/settings/billing`);

  await page.getByRole("button", { name: "Upgrade" }).click();
  await page.getByRole("button", { name: "Pay", exact: true }).click();
  // After a redirect the mocked route does not apply, so the service's own page is loaded.
  await page.waitForURL(`${system.origin}/settings/billing`);
  await page.goto(`${system.origin}/settings/billing`);
  await expect(page.getByRole("region", { name: "Pro", exact: true })).toBeVisible();

  // The application's bundler, with default settings, keeps both colour schemes.
  for (const [colorScheme, paper] of [
    ["dark", "rgb(26, 32, 43)"],
    ["light", "rgb(255, 255, 255)"],
  ] as const) {
    await page.emulateMedia({ colorScheme });
    await expect(page.locator(".billhook-card")).toHaveCSS("background-color", paper);
  }

  // In a narrow column of a wide window, the page fills the column and has the narrow layout.
  const [billing, column] = [await page.locator(".billhook").boundingBox(), await page.locator("#root").boundingBox()];
  expect(billing?.width).toBe(column?.width);
  await expect(page.getByRole("button", { name: "Manage subscription" })).toHaveCSS("padding-left", "12px");

  const styles = () =>
    page.evaluate(() => {
      const others = [...document.querySelectorAll("*")].filter((element) => !element.closest("head, #root"));
      return others.map((element) =>
        Array.from(getComputedStyle(element), (name) => getComputedStyle(element).getPropertyValue(name)).join(),
      );
    });
  // The page changes the height of its surroundings, so it is hidden for the comparison.
  await page.locator("#root").evaluate((root) => (root.style.display = "none"));
  const withPackage = await styles();
  await page.evaluate(() => [...document.styleSheets].forEach((sheet) => (sheet.disabled = sheet.href !== null)));
  expect(await styles()).toEqual(withPackage);
});

/** Builds the application and serves it at `/settings/billing` of the service's origin. */
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
