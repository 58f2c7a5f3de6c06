import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

/** The service to which the development server forwards requests. */
const service = process.env.BILLHOOK_URL ?? "http://127.0.0.1:8080";
const proxy = { "/api": service, "/demo-tokens.json": service };

// The demo application around the page, as in `make run`.
export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "dist/demo",
    // The browsers that support light-dark(). For older targets the build would replace it with code that does not
    // follow the application's color-scheme.
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
  },
  server: { host: "127.0.0.1", proxy },
  preview: { proxy },
  test: {
    environment: "jsdom",
    environmentOptions: { jsdom: { url: "http://localhost/billing" } },
    include: ["test/**/*.test.{ts,tsx}"],
    setupFiles: ["test/setup.ts"],
    testTimeout: 40_000,
    hookTimeout: 40_000,
    expect: { poll: { timeout: 10_000 } },
    restoreMocks: true,
    unstubGlobals: true,
  },
});
