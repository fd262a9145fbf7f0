import { defineConfig } from "vitest/config";

// Entries keep their names, since Django's templates name them and its storage adds the digest; chunks carry their
// own digest, since only the entries name them. A chunk must never import an entry: the browser would load it twice.
export default defineConfig({
  base: "./",
  publicDir: "public",
  build: {
    target: "es2022",
    outDir: "../static/frontend_bridge",
    emptyOutDir: true,
    reportCompressedSize: false,
    chunkSizeWarningLimit: 4000,
    modulePreload: false,
    cssCodeSplit: true,
    rollupOptions: {
      preserveEntrySignatures: "exports-only", // what a page of ours runs exports nothing; ohif.js is imported
      input: { viewer: "src/viewer/main.ts", workers: "src/admin/main.ts", ohif: "src/ohif/main.ts" },
      output: {
        entryFileNames: "[name].js",
        chunkFileNames: "chunks/[name]-[hash].js",
        assetFileNames: "[name][extname]",
        codeSplitting: {
          groups: [{ name: "shared", test: /src\/(client|imaging)\/|src\/viewer\/(dom|words|english|korean)\.ts/ }],
        },
      },
    },
  },
  test: { include: ["tests/**/*.test.ts"], environment: "node" },
});
