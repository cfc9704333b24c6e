// What the page /try/ makes of all that a room can hold: history, edits, reactions, deletions, pictures, what is encrypted,
// and what makes no sense.

import assert from "node:assert/strict";
import { deflateSync, crc32 } from "node:zlib";
import { accessible, expectComplaint, journey, open, step } from "./kit.mjs";
import { Person, segments } from "./people.mjs";
import { enter, message, openRoom, write } from "./tryout.mjs";

const MESSAGES = 90;
const relation = (rel_type, event_id, more = {}) => ({ "m.relates_to": { rel_type, event_id, ...more } });

/** A grey picture as PNG. */
function png(width, height) {
    const chunk = (type, data) => {
        const body = Buffer.concat([Buffer.from(type), data]);
        const [length, check] = [Buffer.alloc(4), Buffer.alloc(4)];
        length.writeUInt32BE(data.length);
        check.writeUInt32BE(crc32(body));
        return Buffer.concat([length, body, check]);
    };
    const head = Buffer.alloc(13);
    head.writeUInt32BE(width, 0);
    head.writeUInt32BE(height, 4);
    head[8] = 8; // bits of grey
    const rows = deflateSync(Buffer.alloc((width + 1) * height, 0));
    const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
    return Buffer.concat([signature, chunk("IHDR", head), chunk("IDAT", rows), chunk("IEND", Buffer.alloc(0))]);
}

await journey(async (browser, url) => {
    const [alice, bob] = [await Person.enter(url, "alice"), await Person.enter(url, "bob")];
    const room = await alice.room({ name: "Seminar <b>fett</b>", topic: "<script>alert(1)</script>" }, bob);
    for (let i = 0; i < MESSAGES; i++) await (i % 2 ? alice : bob).send(room, `Nachricht ${i}.`);
    const context = await open(browser);
    const page = await context.newPage();
    page.on("dialog", (dialog) => assert.fail(`a script ran: ${dialog.message()}`));
    await enter(page, url, "Alice Müller");

    step("history is fetched page by page, and what is on the screen stays there");
    await openRoom(page, "Seminar");
    await page.getByRole("heading", { name: "Seminar <b>fett</b>" }).waitFor();
    await message(page, `Nachricht ${MESSAGES - 1}.`).waitFor();
    const first = page.locator(".message").first();
    const top = await first.locator(".text").textContent();
    await page.locator(".timeline").evaluate((place) => (place.scrollTop = 0));
    await message(page, "Nachricht 50.").waitFor();
    assert.equal(
        await message(page, top).evaluate(
            (one) => one.getBoundingClientRect().top > 0 && one.getBoundingClientRect().top < innerHeight,
        ),
        true,
    );
    await page.getByText("Hier beginnt das Gespräch.").waitFor({ state: "attached" });
    while (!(await page.getByText("Hier beginnt das Gespräch.").isVisible())) {
        const before = await page.locator(".message").count();
        await page.locator(".timeline").evaluate((place) => (place.scrollTop = 0));
        await page.waitForFunction((count) => document.querySelectorAll(".message").length > count, before);
    }
    const texts = await page.locator(".message .text").allTextContents();
    assert.deepEqual(
        texts,
        Array.from({ length: MESSAGES }, (_, i) => `Nachricht ${i}.`),
    );

    step("who reads further up is told of what is new");
    await page.locator(".timeline").evaluate((place) => (place.scrollTop = 0));
    const typo = await bob.send(room, "Guten Tga!");
    await page.getByRole("button", { name: "Neue Nachrichten" }).click();
    await message(page, "Guten Tga!").waitFor();

    step("edits of the writer, not of others");
    await alice.send(room, {
        body: "* Falsch",
        msgtype: "m.text",
        "m.new_content": { msgtype: "m.text", body: "Falsch" },
        ...relation("m.replace", typo),
    });
    await bob.send(room, {
        body: "* Guten Tag!",
        msgtype: "m.text",
        "m.new_content": { msgtype: "m.text", body: "Guten Tag!" },
        ...relation("m.replace", typo),
    });
    await message(page, "Guten Tag!").getByText("bearbeitet").waitFor();
    assert.equal(await page.getByText("Falsch").count(), 0);

    step("reactions: given, shown, taken back");
    await bob.send(room, relation("m.annotation", typo, { key: "🎉" }), "m.reaction");
    await page.getByRole("button", { name: "🎉: Bob Schäfer" }).click();
    await page.getByRole("button", { name: "🎉: Bob Schäfer, Alice Müller" }).click();
    await page.getByRole("button", { name: "🎉: Bob Schäfer", exact: true }).waitFor();
    await message(page, "Guten Tag!").hover();
    await message(page, "Guten Tag!").getByRole("button", { name: "Mit 👍 reagieren" }).click();
    await page.getByRole("button", { name: "👍: Alice Müller" }).waitFor();

    step("deletions by others and by oneself");
    const secret = await bob.send(room, "Das war zu viel");
    await message(page, "Das war zu viel").waitFor();
    await bob.redact(room, secret);
    await message(page, "Nachricht gelöscht").waitFor();
    await alice.send(room, "Das auch");
    await message(page, "Das auch").hover();
    await message(page, "Das auch").getByRole("button", { name: "löschen" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Löschen" }).click();
    await message(page, "Das auch").waitFor({ state: "detached" });
    assert.equal(await message(page, "Nachricht gelöscht").count(), 2);

    step("answers, actions, links");
    await bob.send(room, {
        body: "> <@x:y> Alt\n\nNeu",
        msgtype: "m.text",
        "m.relates_to": { "m.in_reply_to": { event_id: typo } },
    });
    await page.locator(".quote", { hasText: "Bob Schäfer: Guten T" }).waitFor();
    assert.equal(
        await page
            .locator(".message", { has: page.locator(".quote") })
            .locator(".text")
            .textContent(),
        "Neu",
    );
    await bob.send(room, { body: "winkt", msgtype: "m.emote" });
    await message(page, "* winkt").waitFor();
    await bob.send(
        room,
        "Siehe https://example.org/a?b=c#d, (http://example.org/x). javascript:alert(1) data:text/html,x",
    );
    const links = message(page, "Siehe").getByRole("link");
    await links.first().waitFor();
    assert.deepEqual(await links.evaluateAll((all) => all.map((one) => [one.href, one.target, one.rel])), [
        ["https://example.org/a?b=c#d", "_blank", "noopener noreferrer"],
        ["http://example.org/x", "_blank", "noopener noreferrer"],
    ]);

    step("pictures come with the login; what is no picture is none");
    expectComplaint(context, /status of (400|404)/);
    await bob.send(room, {
        msgtype: "m.image",
        body: "Tafelbild.png",
        url: await bob.upload(png(300, 200), "image/png"),
    });
    const picture = page.getByRole("img", { name: "Bild: Tafelbild.png" });
    await picture.waitFor();
    await page.waitForFunction(() => document.querySelector(".picture img")?.naturalWidth === 300);
    assert.match(await picture.getAttribute("src"), /^blob:/);
    const script = new TextEncoder().encode('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>');
    const svg = await bob.upload(script, "image/svg+xml");
    await bob.send(room, { msgtype: "m.image", body: "boese.svg", url: svg });
    await page.getByText("Das Bild boese.svg lässt sich nicht laden").waitFor();
    await bob.send(room, { msgtype: "m.file", body: "Skript.html", url: svg });
    const saved = page.waitForEvent("download");
    await page.getByRole("button", { name: "Skript.html herunterladen" }).click();
    assert.equal((await saved).suggestedFilename(), "Skript.html");

    step("what makes no sense does no harm");
    const senseless = [
        {},
        { msgtype: 5, body: { a: 1 } },
        { body: ["x"] },
        { msgtype: "m.image", url: 7, body: "a" },
        { msgtype: "m.image", url: "mxc://../x", body: "b" },
        { msgtype: "m.file" },
        { msgtype: "m.text", body: "c", "m.relates_to": "d" },
        { msgtype: "m.text", body: "e", "m.relates_to": { "m.in_reply_to": 3 } },
        { msgtype: "m.text", body: "f", ...relation("m.replace", 7) },
    ];
    for (const content of senseless) await bob.send(room, content);
    await bob
        .send(room, { "m.relates_to": { rel_type: "m.annotation", event_id: typo, key: { a: 1 } } }, "m.reaction")
        .catch(() => {});
    await bob.call("PUT", `/rooms${segments(room)}/send/org.example.unknown/u1`, { body: "unsichtbar" });
    await bob.send(room, "Es geht weiter");
    await message(page, "Es geht weiter").waitFor();
    assert.equal(await page.getByText("unsichtbar").count(), 0);
    await accessible(page, "a room with everything in it");

    step("an encrypted room is called so");
    const state = [{ type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } }];
    const hidden = await bob.room({ name: "Geheim", initial_state: state }, alice);
    await openRoom(page, "Geheim");
    const content = {
        algorithm: "m.megolm.v1.aes-sha2",
        ciphertext: "x",
        session_id: "y",
        sender_key: "z",
        device_id: "d",
    };
    await bob.send(hidden, content, "m.room.encrypted");
    await page.getByText("Ende-zu-Ende-verschlüsselt").waitFor();
    await message(page, "Verschlüsselt; lesbar in Element").waitFor();
    assert.equal(await page.getByRole("textbox").count(), 0);

    step("what is unread is counted, until it is read");
    await bob.send(room, "Bist du noch da?");
    await page.getByRole("button", { name: /Seminar.*1 ungelesen/ }).waitFor();
    await page.waitForFunction(() => document.title.startsWith("(2) "));
    await openRoom(page, "Seminar");
    await message(page, "Bist du noch da?").waitFor();
    await page.waitForFunction(() => document.title.startsWith("(1) ")); // the invitation to the notices

    step("what the server refused can be sent again");
    const refuse = (json) =>
        page.route(/\/send\/m\.room\.message\//, (route) => route.fulfill({ status: 403, json }), { times: 1 });
    expectComplaint(context, /status of 403/);
    await refuse({ errcode: "M_FORBIDDEN", error: "Gerade nicht" });
    await write(page, "Zweiter Versuch");
    await page.getByText("Nicht gesendet: Gerade nicht").waitFor();
    await accessible(page, "a message that was refused");
    await page.getByRole("button", { name: "Noch einmal senden" }).click();
    await message(page, "Zweiter Versuch").waitFor();
    await refuse({ errcode: "M_FORBIDDEN", error: "Gerade nicht" });
    await write(page, "Doch nicht");
    await page.getByRole("button", { name: "Verwerfen" }).click();
    await page.locator(".pending").waitFor({ state: "detached" });
    await refuse({ errcode: "M_CONSENT_NOT_GIVEN", error: "Erst zustimmen", consent_uri: `${url}/_heichat/consent` });
    await write(page, "Nach der Zustimmung");
    await page.getByRole("button", { name: "Ich habe zugestimmt, weiter" }).click();
    await message(page, "Nach der Zustimmung").waitFor();
    assert.equal(await page.getByText("Doch nicht").count(), 0);

    step("an invitation is declined, somebody is removed");
    await bob.call("POST", "/createRoom", { name: "Werbung", invite: [alice.id] });
    await page.getByRole("button", { name: "Einladung zu „Werbung“ ablehnen" }).click();
    await page.getByText("Werbung").waitFor({ state: "detached" });
    await openRoom(page, "Geheim");
    await page.getByRole("heading", { name: "Geheim" }).waitFor();
    await bob.call("POST", `/rooms${segments(hidden)}/kick`, { user_id: alice.id });
    await page.getByText("Sie gehören nicht mehr zu „Geheim“.").waitFor();
    await page.keyboard.press("Escape");
    await openRoom(page, "Seminar");

    step("a login that ended is noticed");
    expectComplaint(context, /status of 401/);
    await alice.call("POST", "/logout/all", {});
    await page.getByRole("textbox").fill("x");
    await page.getByText("Ihre Anmeldung gilt nicht mehr").waitFor();
});
