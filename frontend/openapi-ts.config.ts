import { defineConfig } from "@hey-api/openapi-ts";

// Generates the client from the committed OpenAPI document, with only the operations for a tenant's users.
export default defineConfig({
  input: "../openapi/billhook.json",
  parser: { filters: { tags: { include: ["Billing"] } } },
  output: { path: "src/api/generated" },
  plugins: ["@hey-api/client-fetch", "@hey-api/sdk", "@hey-api/typescript"],
  logs: { level: "warn", file: false },
});
