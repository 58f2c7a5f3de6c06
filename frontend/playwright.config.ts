import { defineConfig } from "@playwright/test";

// Uses the installed Chromium and the programs that are already built. Nothing is downloaded.
export default defineConfig({
  testDir: "e2e",
  fullyParallel: true,
  workers: 2,
  forbidOnly: true,
  // Long enough for a busy machine.
  timeout: 60_000,
  expect: { timeout: 10_000 },
  reporter: [["list"]],
  use: {
    browserName: "chromium",
    launchOptions: {
      // The sandbox does not work as root in a container.
      chromiumSandbox: false,
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: [
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
      // Returning from Stripe uses the back/forward cache, as for users.
      ignoreDefaultArgs: ["--disable-back-forward-cache"],
    },
    screenshot: "only-on-failure",
    trace: "off",
  },
});
