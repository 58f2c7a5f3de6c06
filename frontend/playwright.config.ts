import { defineConfig } from "@playwright/test";

// The browser is Debian's: none is downloaded. The programs are those that are built already.
export default defineConfig({
  testDir: "e2e",
  fullyParallel: true,
  workers: 2,
  forbidOnly: true,
  // For machines that have other things to do.
  timeout: 60_000,
  expect: { timeout: 10_000 },
  reporter: [["list"]],
  use: {
    browserName: "chromium",
    launchOptions: {
      // Containers, where tests run as root, have none.
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
      // The way back from Stripe brings the page out of the browser's memory, here as it does for people.
      ignoreDefaultArgs: ["--disable-back-forward-cache"],
    },
    screenshot: "only-on-failure",
    trace: "off",
  },
});
