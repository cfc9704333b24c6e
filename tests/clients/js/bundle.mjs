// matrix-js-sdk as modules for a browser.

import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));

/** The modules by name: `sdk.js` exports all of the SDK and imports the others from beside it. */
export async function bundledSdk() {
    const result = await build({
        stdin: { contents: 'export * from "matrix-js-sdk/lib/browser-index.js";', resolveDir: HERE, sourcefile: "sdk.js" },
        bundle: true,
        format: "esm",
        splitting: true,
        outdir: join(HERE, "out"), // nothing is written
        entryNames: "sdk",
        write: false,
        logLevel: "error",
        define: { global: "globalThis" },
    });
    return new Map(result.outputFiles.map((file) => [basename(file.path), file.text]));
}
