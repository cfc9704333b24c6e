// The terms of use, as people meet them: before they agree, after, and with a link that is not theirs.

import assert from "node:assert/strict";
import { accessible, expectComplaint, fits, journey, open, picture, step, walk, WIDTHS } from "./kit.mjs";

const API = "/_matrix/client/v3";
const PEOPLE = ["alice", "bob", "charlotte", "david"];

async function call(url, path, body, token) {
    const answer = await fetch(url + API + path, {
        method: "POST",
        body: JSON.stringify(body),
        headers: token ? { Authorization: `Bearer ${token}` } : {},
    });
    return [answer.status, await answer.json()];
}

async function logIn(url, user) {
    const identifier = { type: "m.id.user", user };
    const [status, login] = await call(url, "/login", { type: "m.login.password", identifier, password: `${user}-demo` });
    assert.equal(status, 200);
    return login.access_token;
}

/** Create a room; the link to the terms, if that was refused for want of them. */
async function consentUri(url, token) {
    const [status, answer] = await call(url, "/createRoom", {}, token);
    if (status === 200) return null;
    assert.deepEqual([status, answer.errcode], [403, "M_CONSENT_NOT_GIVEN"]);
    return answer.consent_uri;
}

async function agree(context, url, user, label) {
    const token = await logIn(url, user);
    const link = await consentUri(url, token);
    const page = await context.newPage();
    await page.goto(link);
    await accessible(page, `terms before, ${label}`);
    await fits(page, "the terms");
    await picture(page, `terms-before-${label}`, { whole: true });
    const stops = await walk(page);
    assert.deepEqual(stops.slice(0, 5), ["a: Zum Inhalt", "a: heiCHAT", "a: Deutsch", "a: English", "button: Einverstanden"]);
    await page.getByRole("button", { name: "Einverstanden" }).focus();
    await page.keyboard.press("Enter");
    await page.getByText("zugestimmt").waitFor();
    assert.ok(await page.getByRole("button", { name: "Einverstanden" }).isHidden());
    await accessible(page, `terms after, ${label}`);
    await fits(page, "the terms");
    await picture(page, `terms-after-${label}`, { whole: true });
    assert.equal(await consentUri(url, token), null);
    return link;
}

async function refused(context, link, label) {
    const page = await context.newPage();
    expectComplaint(context, /status of 403/);
    await page.goto(`${link}x`);
    await page.getByRole("heading", { name: "Dieser Link gilt nicht" }).waitFor();
    await accessible(page, `terms error, ${label}`);
    await fits(page, "the error");
    await picture(page, `terms-error-${label}`);
    await page.getByRole("link", { name: "English" }).click();
    await page.getByRole("heading", { name: "This link is not valid" }).waitFor();
}

async function forEverybody(context, url) {
    step("for everybody to read");
    const page = await context.newPage();
    await page.goto(`${url}/`);
    await accessible(page, "landing page of the demo");
    await fits(page, "the landing page of the demo");
    await page.getByRole("contentinfo").getByRole("link", { name: "Nutzungsbedingungen" }).click();
    await page.getByRole("heading", { name: "Nutzungsbedingungen", level: 1 }).waitFor();
    await accessible(page, "terms for everybody");
    assert.ok(await page.getByRole("button").isHidden());
}

await journey(async (browser, url) => {
    const people = PEOPLE.values();
    for (const size of Object.values(WIDTHS)) {
        for (const colours of ["light", "dark"]) {
            const context = await open(browser, { size, colours });
            const label = `${size.width}-${colours}`;
            step(label);
            const link = await agree(context, url, people.next().value, label);
            await refused(context, link, label);
            await forEverybody(context, url);
            await context.close();
        }
    }
});
