// The kit itself: it must notice what the tests rely on it to notice.

import assert from "node:assert/strict";
import { accessible, checked, expectComplaint, fits, forget, journey, open, step, walk, WIDTHS } from "./kit.mjs";

const PAGE = (main) => `<!doctype html><html lang="en"><title>x</title><main><h1>x</h1>${main}</main></html>`;

async function refused(what, call) {
    step(`  noticed: ${what}`);
    await assert.rejects(async () => call(), assert.AssertionError, what);
}

await journey(async (browser, url) => {
    const context = await open(browser, { size: WIDTHS.phone, colours: "dark", locale: "en-GB" });
    let page = await context.newPage();
    await page.goto(`${url}/try/`);
    assert.ok(checked(context) > 0);
    assert.equal(await page.evaluate(() => navigator.language), "en-GB");
    assert.ok(await page.evaluate(() => innerWidth === 360 && matchMedia("(prefers-color-scheme: dark)").matches));

    page = await context.newPage(); // without a policy
    await page.setContent(PAGE('<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">'));
    await refused("a picture without a text", () => accessible(page, "that picture"));
    await page.setContent(PAGE('<p style="width: 400px">wide</p>'));
    await refused("what is too wide", () => fits(page, "that page"));
    await page.setContent(PAGE('<a href="/a">one</a> <button style="outline: none">two</button>'));
    await refused("no visible focus", () => walk(page));
    await page.setContent(PAGE('<a href="/a">one</a> <button>two</button>'));
    assert.deepEqual(await walk(page), ["a: one", "button: two"]);

    await page.evaluate(() => console.error("complaint"));
    await refused("a complaint in the console", () => checked(context));
    expectComplaint(context, /^complaint$/);
    checked(context);

    const other = await open(browser);
    expectComplaint(other, /ERR_|CORS/);
    const away = await other.newPage();
    await away.goto(`${url}/try/`);
    await away.evaluate(() => fetch("http://127.0.0.1:1/").catch(() => {}));
    await refused("a request to another origin", () => checked(other));
    forget(other);
});
