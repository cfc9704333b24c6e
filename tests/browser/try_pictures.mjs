// Pictures of the page /try/: the people of the demo, and a chat between two of them, in both widths and colours.

import { accessible, fits, journey, open, picture, step, WIDTHS } from "./kit.mjs";
import { Person } from "./people.mjs";
import { enter, message, openRoom } from "./tryout.mjs";

await journey(async (browser, url) => {
    const people = await Promise.all(["alice", "bob", "charlotte", "emine"].map((one) => Person.enter(url, one)));
    const [alice, bob, charlotte, emine] = people;
    for (const person of people) {
        const { rooms } = await person.call("GET", "/sync");
        for (const id of Object.keys(rooms.invite)) await person.call("POST", `/join/${encodeURIComponent(id)}`, {});
    }
    const office = await emine.room({ name: "Prüfungsamt", topic: "Fragen zu Anmeldung und Fristen" }, alice);
    await emine.send(office, "Die Anmeldung zu den Klausuren ist jetzt offen.");
    const lecture = await charlotte.room({ name: "Analysis I" }, alice, bob);
    await charlotte.send(lecture, "Das Übungsblatt 5 liegt bereit, Abgabe am Freitag.");
    const chat = await alice.room({ is_direct: true, preset: "trusted_private_chat" }, bob);
    const direct = (person, other) =>
        person.call("PUT", `/user/${encodeURIComponent(person.id)}/account_data/m.direct`, { [other.id]: [chat] });
    await Promise.all([direct(alice, bob), direct(bob, alice)]);
    await alice.send(chat, "Hallo Bob! Hast du Blatt 5 schon angesehen?");
    const answer = await bob.send(chat, "Ja, Aufgabe 3 ist gemein. Sollen wir sie zusammen machen?");
    await alice.send(chat, "Gern! Morgen um 14 Uhr in der Bibliothek?");
    await alice.send(chat, "Die Formelsammlung ist hier: https://example.org/formeln");
    await alice.send(chat, { "m.relates_to": { rel_type: "m.annotation", event_id: answer, key: "👍" } }, "m.reaction");
    await bob.send(chat, "Passt. Bis morgen!");

    for (const size of Object.values(WIDTHS)) {
        for (const colours of ["light", "dark"]) {
            const name = `${size.width}-${colours}`;
            step(name);
            const page = await (await open(browser, { size, colours })).newPage();
            await page.goto(`${url}/try/`);
            await page.getByRole("button", { name: "Alice Müller" }).waitFor();
            await fits(page, "the people of the demo");
            await accessible(page, "the people of the demo");
            await picture(page, `try-login-${name}`);
            await enter(page, url, "Alice Müller");
            await page.getByRole("button", { name: "Bob Schäfer" }).waitFor();
            await fits(page, "the list of rooms");
            await accessible(page, "the list of rooms");
            await picture(page, `try-rooms-${name}`);
            await openRoom(page, "Bob Schäfer");
            await message(page, "Passt. Bis morgen!").waitFor();
            await bob.call("PUT", `/rooms/${encodeURIComponent(chat)}/typing/${encodeURIComponent(bob.id)}`, {
                typing: true,
                timeout: 30_000,
            });
            await page.getByText("Bob Schäfer schreibt …").waitFor();
            await fits(page, "the chat");
            await accessible(page, "the chat");
            await picture(page, `try-chat-${name}`);
            await bob.call("PUT", `/rooms/${encodeURIComponent(chat)}/typing/${encodeURIComponent(bob.id)}`, {
                typing: false,
            });
        }
    }
});
