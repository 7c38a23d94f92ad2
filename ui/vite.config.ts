import { resolve } from "node:path";
import license from "rollup-plugin-license";
import { defineConfig } from "vite";

// What is built lands in dist/app, which the binary embeds. `npm run dev` passes the API on to a daemon.
export default defineConfig({
  build: {
    outDir: "dist/app",
    emptyOutDir: true,
    target: "es2022",
    // Everything is a file of its own: the policy of the pages allows nothing inside of them.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: {
      input: [resolve(__dirname, "index.html"), resolve(__dirname, "ops.html")],
      plugins: [
        license({
          thirdParty: {
            includePrivate: false,
            output: resolve(__dirname, "dist/app/assets/licenses.txt"),
            allow: { test: "(MIT OR ISC OR BSD-3-Clause OR Apache-2.0)", failOnViolation: true },
          },
        }),
      ],
    },
  },
  server: { proxy: { "/v1": "http://127.0.0.1:8080", "/healthz": "http://127.0.0.1:8080" } },
});
