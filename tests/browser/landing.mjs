// The page at `/`, of a server with everything: node landing.mjs URL ADDRESS, the address that it shows.

import assert from "node:assert/strict";
import { accessible, fits, focused, journey, open, picture, step, walk, WIDTHS } from "./kit.mjs";

async function looks(browser, url) {
    for (const [where, size] of Object.entries(WIDTHS)) {
        for (const colours of ["light", "dark"]) {
            const context = await open(browser, { size, colours });
            const page = await context.newPage();
            await page.goto(url);
            await accessible(page, `landing page, ${where}, ${colours}`);
            await fits(page, "the landing page");
            await picture(page, `landing-${size.width}-${colours}`, { whole: true });
            await context.close();
        }
    }
}

async function byKeyboard(browser, url) {
    step("by keyboard");
    const page = await (await open(browser)).newPage();
    await page.goto(url);
    assert.deepEqual(await walk(page), [
        "a: Zum Inhalt", "a: heiCHAT", "a: Deutsch", "a: English", "a: Im Browser öffnen", "a: Mit einer App verbinden",
        "button: Adresse kopieren", "a: Weboberfläche", "a: element.io/download", "a: Nutzungsbedingungen",
        "a: heiconf.example.org", "a: it-service@example.org", "a: Nutzungsbedingungen", "a: Datenschutzhinweise",
        "a: Impressum", "a: Kontakt",
    ]);
    await page.reload();
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    assert.match(await focused(page), /^main:/);
    await page.keyboard.press("Tab");
    assert.equal(await focused(page), "a: Im Browser öffnen");
}

async function inBothLanguages(browser, url) {
    step("in both languages");
    const page = await (await open(browser, { locale: "en-GB" })).newPage();
    await page.goto(url);
    assert.equal(await page.locator("html").getAttribute("lang"), "en");
    await accessible(page, "landing page, English");
    await page.getByRole("link", { name: "Deutsch" }).click();
    await page.getByRole("heading", { name: "Verbinden" }).waitFor();
    assert.equal(await page.locator("html").getAttribute("lang"), "de");
    await page.getByRole("contentinfo").getByRole("link", { name: "Datenschutzhinweise" }).click();
    await page.getByRole("heading", { name: "Datenschutzhinweise", level: 1 }).waitFor();
    await accessible(page, "privacy notice");
    await fits(page, "the privacy notice");
    await page.getByRole("link", { name: "English" }).click();
    await page.getByRole("heading", { name: "Privacy notice", level: 1 }).waitFor();
    await page.getByRole("banner").getByRole("link", { name: "heiCHAT" }).click();
    await page.getByRole("heading", { name: "Connect" }).waitFor();
}

async function copying(browser, url, address) {
    step("copying the address");
    const context = await open(browser);
    const page = await context.newPage();
    await page.goto(url);
    await context.grantPermissions(["clipboard-read", "clipboard-write"]);
    await page.getByRole("button", { name: "Adresse kopieren" }).click();
    await page.getByText("Kopiert.").waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), address);
    await page.reload();
    await page.evaluate(() => Object.defineProperty(navigator, "clipboard", { value: undefined })); // as without TLS
    await page.getByRole("button", { name: "Adresse kopieren" }).click();
    await page.getByText("Die Adresse ist markiert").waitFor();
    assert.equal(await page.evaluate(() => getSelection().toString().trim()), address);
}

async function withoutScripts(browser, url, address) {
    step("without JavaScript, and on paper");
    const page = await (await open(browser, { javaScriptEnabled: false })).newPage();
    await page.goto(url);
    assert.equal((await page.locator("#address").innerText()).trim(), address);
    assert.ok(await page.locator("button").isHidden());
    await page.emulateMedia({ media: "print" });
    assert.ok(await page.locator(".qr svg").isVisible());
    assert.ok(await page.locator(".actions").isHidden());
}

await journey(async (browser, url, address) => {
    await looks(browser, url);
    await byKeyboard(browser, url);
    await inBothLanguages(browser, url);
    await copying(browser, url, address);
    await withoutScripts(browser, url, address);
});
