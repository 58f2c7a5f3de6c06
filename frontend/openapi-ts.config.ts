import { defineConfig } from "@hey-api/openapi-ts";

// The client is generated from the committed contract, and only from what the contract offers to a tenant's users.
export default defineConfig({
  input: "../openapi/billhook.json",
  parser: { filters: { tags: { include: ["Billing"] } } },
  output: { path: "src/api/generated" },
  plugins: ["@hey-api/client-fetch", "@hey-api/sdk", "@hey-api/typescript"],
  logs: { level: "warn", file: false },
});
