import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The package: the page without the demo. Its dependencies are not bundled: the application provides them.
export default defineConfig({
  plugins: [react()],
  publicDir: false,
  build: {
    outDir: "dist/package",
    lib: { entry: { index: "src/package.ts" }, formats: ["es"], cssFileName: "style" },
    rolldownOptions: { external: [/^react($|\/)/, /^react-dom($|\/)/, "@tanstack/react-query"] },
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    minify: false,
    sourcemap: true,
  },
});
