import { resolve } from "node:path";
import license from "rollup-plugin-license";
import { defineConfig, type Plugin } from "vite";

/**
 * xterm makes some of its elements with the page's document where it should with that of `documentOverride`
 * (6.0.0, 6.1.0-beta.337): the policy of the pages would block their styles. A release that is written another
 * way fails the build.
 */
function xtermWithItsDocument(): Plugin {
  const faults: [RegExp, string][] = [
    [/(createInstance\(\w+,)document\)/g, "$1this._document)"],
    [/this\._document\?\?typeof window<"u"\?window\.document:null/g, "this._document"],
  ];
  return {
    name: "xterm-with-its-document",
    apply: "build",
    transform(code, id) {
      if (!id.endsWith("/@xterm/xterm/lib/xterm.mjs")) return undefined;
      for (const [fault, mended] of faults) {
        if (code.match(fault)?.length !== 1) this.error(`xterm is not what it was: ${fault.source}`);
        code = code.replace(fault, mended);
      }
      return { code, map: null };
    },
  };
}

// What is built lands in dist/app, which the binary embeds. `npm run dev` passes the API on to a daemon.
export default defineConfig({
  plugins: [xtermWithItsDocument()],
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
  // The daemon takes changes from pages of its own name alone, so it is told the name that the browser has.
  server: {
    proxy: {
      "/v1": { target: "http://127.0.0.1:8080", ws: true, changeOrigin: false },
      "/healthz": "http://127.0.0.1:8080",
    },
  },
});
