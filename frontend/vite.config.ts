import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

/** The service that the page's own server passes calls on to. */
const service = process.env.BILLHOOK_URL ?? "http://127.0.0.1:8080";
const proxy = { "/api": service, "/demo-tokens.json": service };

// The demo: the page with a little application around it, as `make run` shows it.
export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "dist/demo",
    // What light-dark() needs. Without it the colours would be computed for older browsers in a way that cannot be
    // switched by the application around the page.
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
