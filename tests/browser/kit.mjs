// A browser for the tests: contexts by width, colours and language; what the network may be asked; axe; screenshots.
//
// Every script is `node SCRIPT.mjs URL [ARGUMENTS]`, run by driver.py; tests/clients/driver.py says what the lines that
// begin with @ mean. CHROMIUM is the browser, SCREENSHOTS the folder for pictures.

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf-8");
/** How every browser is started. */
export const FLAGS = [
    "--no-sandbox", // tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];
const SECONDS = 20;
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const url = process.argv[2];

/** The widths that everything is looked at in. */
export const WIDTHS = { phone: { width: 360, height: 740 }, desk: { width: 1280, height: 800 } };

/** Tell what comes next. */
export function step(text) {
    console.log(text);
}

/** Ask whoever runs this script for a restart of the server (`how`: also "kill", for kill -9), and wait for it. */
export async function restartServer(how = "restart") {
    console.log(`@${how}`);
    assert.equal((await lines.next()).value, "restarted");
}

/**
 * Run a script: `go(browser, url, ...arguments)`, then end, with a status that tells how it went. It ends well only if
 * every context that `open` made, closed or not, has kept to its origin and nothing was complained of in any console.
 * `flags`: more command-line flags of the browser.
 */
export async function journey(go, { flags = [] } = {}) {
    const profile = await mkdtemp(join(tmpdir(), "heichat-browser-"));
    let browser;
    try {
        browser = await chromium.launch({
            executablePath: process.env.CHROMIUM,
            args: [...FLAGS, ...flags],
            env: { ...process.env, HOME: profile }, // nothing of the person who runs the tests
        });
        await go(browser, url, ...process.argv.slice(3));
        for (const context of watched.keys()) checked(context);
        step("@done");
    } catch (error) {
        console.log(error?.stack ?? error);
        process.exitCode = 1;
        for (const context of browser?.contexts() ?? []) {
            for (const entry of watched.get(context)?.console ?? []) step(`  console: ${entry}`);
        }
    }
    await browser?.close();
    await rm(profile, { recursive: true, force: true });
    process.exit();
}

const watched = new Map();

/**
 * A new context, as another person's browser: `size` (see WIDTHS), `colours` "light" or "dark", `locale`, and whatever
 * Browser.newContext takes. Requests and complaints of all its pages are kept; see `checked` and `expectComplaint`.
 */
export async function open(browser, { size = WIDTHS.desk, colours = "light", locale = "de-DE", ...more } = {}) {
    const context = await browser.newContext({ viewport: size, colorScheme: colours, locale, ...more });
    context.setDefaultTimeout(SECONDS * 1000);
    const seen = { requests: [], console: [], expected: [] };
    watched.set(context, seen);
    context.on("request", (request) => seen.requests.push(request.url()));
    context.on("page", (page) => {
        page.on("websocket", (socket) => seen.requests.push(socket.url()));
        page.on("pageerror", (error) => seen.console.push(`uncaught: ${error.message}`));
    });
    context.on("console", (message) => {
        if (["error", "warning"].includes(message.type())) seen.console.push(message.text());
    });
    return context;
}

/** What a context may find in its console (a RegExp): for what a test provokes, such as an answer 403. */
export function expectComplaint(context, pattern) {
    watched.get(context).expected.push(pattern);
}

/** What a context did no longer counts: for the test of this kit. */
export function forget(context) {
    watched.delete(context);
}

/** A context has asked nobody but this server, and its console holds no unexpected error or warning; how much it asked. */
export function checked(context) {
    const { requests, console, expected } = watched.get(context);
    const origin = new URL(url).origin;
    // what `data:` and `blob:` hold comes from nowhere else: a blob's origin is its page's
    const foreign = requests.filter((one) => !one.startsWith("data:") && new URL(one).origin !== origin);
    assert.deepEqual(foreign, [], "requests went to another origin");
    assert.deepEqual(
        console.filter((text) => !expected.some((pattern) => pattern.test(text))),
        [],
        "the console has complaints",
    );
    return requests.length;
}

/** axe-core finds nothing on the page as it is now (WCAG 2.2 A and AA, and its best practices). `what`: for the message. */
export async function accessible(page, what) {
    step(`  axe: ${what}`);
    // evaluated by the debugger, which the page's Content-Security-Policy does not stop
    await page.evaluate(AXE);
    const violations = await page.evaluate(async () => (await globalThis.axe.run(document, { preload: false })).violations);
    const told = violations.map((one) => `${one.id} (${one.help}): ${one.nodes.map((node) => node.html).join(" | ")}`);
    assert.deepEqual(told, [], `axe on ${what}`);
}

/** Nothing sticks out to the right: a page that must be pushed sideways on a phone. */
export async function fits(page, what) {
    const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= room, `${what} is ${wide} px wide in a window of ${room} px`);
}

/** Save a picture (`name` without ending) of what is seen, or of the `whole` page. */
export async function picture(page, name, { whole = false } = {}) {
    step(`  picture: ${name}`);
    await page.evaluate(() => document.fonts.ready);
    const path = join(process.env.SCREENSHOTS, `${name}.png`);
    await page.screenshot({ path, fullPage: whole, animations: "disabled", caret: "hide" });
}

/** Where the keyboard is: tag, role and what a screen reader would say, as `a: Nutzungsbedingungen`. */
export function focused(page) {
    return page.evaluate(() => {
        const one = document.activeElement;
        const name = one.getAttribute("aria-label") ?? (one.innerText || one.value || "");
        return `${one.tagName.toLowerCase()}: ${name.trim().replaceAll(/\s+/g, " ")}`;
    });
}

/** Press Tab until the keyboard is back at the beginning; what it came by. Each has a visible focus. */
export async function walk(page, most = 60) {
    const found = [];
    await page.evaluate(() => document.activeElement?.blur());
    for (let count = 0; count < most; count++) {
        await page.keyboard.press("Tab");
        const here = await focused(page);
        if (here.startsWith("body:")) return found;
        const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
        assert.notEqual(outline, "none", `no visible focus on ${here}`);
        found.push(here);
    }
    return assert.fail(`no end to the page by keyboard: ${found.join(", ")}`);
}
