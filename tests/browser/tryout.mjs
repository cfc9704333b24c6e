// What people do on the page /try/, for all scripts that do it.

/** Log in as a demo person, by a click on their card. */
export async function enter(page, url, name) {
    await page.goto(`${url}/try/`);
    await page.getByRole("button", { name }).click();
    await page.getByRole("navigation").waitFor();
}

/** Accept the invitation to the service's room, follow the link in its message, agree, and come back. */
export async function agree(page) {
    await page.getByRole("button", { name: "Einladung zu „Server Notices“ annehmen" }).click();
    const opened = page.waitForEvent("popup");
    await page
        .getByRole("link", { name: /consent/ })
        .first()
        .click();
    const terms = await opened;
    await terms.getByRole("button", { name: "Einverstanden" }).click();
    await terms.getByRole("status").waitFor();
    await terms.close();
}

/** Open a room that one is in. */
export const openRoom = (page, name) => page.locator(".rooms .entry", { hasText: name }).click();

/** Write to the open room. */
export async function write(page, text) {
    await page.getByRole("textbox", { name: "Nachricht schreiben" }).fill(text);
    await page.keyboard.press("Enter");
}

/** A message of the open room that the server has, by its text. */
export const message = (page, text) => page.locator(".message:not(.pending)").filter({ hasText: text });

/** Begin a conversation with somebody who is looked for in the directory. */
export async function begin(page, term, name) {
    await page.getByRole("button", { name: "Person anschreiben" }).click();
    await page.getByRole("searchbox", { name: "Name oder Uni-ID" }).fill(term);
    await page.getByRole("dialog").getByRole("button", { name }).click();
}
