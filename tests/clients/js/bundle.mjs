// matrix-js-sdk with its Rust crypto as modules for a browser.

import { readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
/** Where the crypto looks for its WebAssembly, from beside the modules, and where it is. */
const WASM = "pkg/matrix_sdk_crypto_wasm_bg.wasm";
const WASM_FILE = join(HERE, "node_modules/@matrix-org/matrix-sdk-crypto-wasm", WASM);

/** The files by name: `sdk.js` exports all of the SDK and loads the others from beside it. */
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
    const modules = result.outputFiles.map((file) => [basename(file.path), file.text]);
    return new Map([...modules, [WASM, await readFile(WASM_FILE)]]);
}
