// The first minute: two people find each other on /try/ and chat, with the terms of use and a restart in between.

import assert from "node:assert/strict";
import {
    accessible,
    expectComplaint,
    fits,
    focused,
    journey,
    open,
    restartServer,
    step,
    walk,
    WIDTHS,
} from "./kit.mjs";
import { agree, begin, enter, message, write } from "./tryout.mjs";

const HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script> javascript:alert(3)";

await journey(async (browser, url) => {
    const desk = await open(browser);
    const phone = await open(browser, { size: WIDTHS.phone, colours: "dark" });
    expectComplaint(desk, /status of 403/); // before agreeing
    for (const context of [desk, phone]) expectComplaint(context, /ERR_CONNECTION|ERR_EMPTY_RESPONSE|status of 503/); // the restart
    const [alice, bob] = [await desk.newPage(), await phone.newPage()];
    for (const page of [alice, bob]) page.on("dialog", (dialog) => assert.fail(`a script ran: ${dialog.message()}`));

    step("Alice comes from the server's address, and logs in by a click");
    await alice.goto(url);
    await alice.getByRole("link", { name: "Gleich ausprobieren" }).click();
    await alice.getByRole("button", { name: "Alice Müller" }).waitFor();
    await accessible(alice, "the people of the demo");
    assert.ok((await walk(alice)).includes("button: CG Prof. Dr. Charlotte Groß charlotte · lehrt"));
    await alice.getByRole("button", { name: "Alice Müller" }).click();
    await alice.getByRole("heading", { name: "Willkommen, Alice Müller!" }).waitFor();
    await accessible(alice, "the welcome");

    step("before agreeing she is told kindly, and goes on where she was");
    await begin(alice, "schäf", "Bob Schäfer");
    const terms = alice.getByRole("link", { name: "Nutzungsbedingungen öffnen" });
    await terms.waitFor();
    await accessible(alice, "the question for agreement");
    await alice.getByRole("button", { name: "Ich habe zugestimmt, weiter" }).click();
    await alice.getByText("noch nicht angekommen").waitFor();
    await alice.getByRole("button", { name: "Abbrechen" }).click();
    await alice.getByText("erst den Nutzungsbedingungen zustimmen").waitFor();
    await alice.keyboard.press("Escape");
    await alice.keyboard.press("Escape");
    await alice.getByRole("dialog").waitFor({ state: "detached" });

    step("she follows the link of the notice, agrees, and begins");
    await agree(alice);
    assert.equal(await alice.getByText("Hier schreibt nur der Dienst").isVisible(), true);
    assert.equal(await alice.getByRole("textbox").count(), 0);
    await accessible(alice, "the room of notices");
    await begin(alice, "bob", "Bob Schäfer");
    await alice.getByRole("heading", { name: "Bob Schäfer" }).waitFor();
    assert.equal(await focused(alice), "textarea: Nachricht schreiben");
    await write(alice, "Hallo Bob!");
    await message(alice, "Hallo Bob!").waitFor();

    step("Bob, on a phone, agrees and answers");
    await enter(bob, url, "Bob Schäfer");
    await accessible(bob, "the list on a phone");
    await agree(bob);
    await bob.getByRole("button", { name: "Zurück zu den Gesprächen" }).click();
    await bob.getByRole("button", { name: "Einladung zu „Alice Müller“ annehmen" }).click();
    await message(bob, "Hallo Bob!").waitFor();
    await fits(bob, "the room on a phone");
    await bob.getByRole("textbox").pressSequentially("Hallo A");
    await alice.getByText("Bob Schäfer schreibt …").waitFor();
    await write(bob, "Hallo Alice!");
    await message(alice, "Hallo Alice!").waitFor();
    assert.equal(await alice.locator("[aria-live=polite]#spoken").textContent(), "Bob Schäfer: Hallo Alice!");
    await alice.getByText("Bob Schäfer schreibt …").waitFor({ state: "detached" });
    await bob.getByText("Gelesen von Alice Müller").waitFor();
    await accessible(alice, "the conversation");
    await accessible(bob, "the conversation on a phone");
    await alice.getByRole("link", { name: "heiCHAT" }).focus(); // from where it goes on
    const places = await walk(alice);
    for (const place of [
        "button: Abmelden",
        "button: Person anschreiben",
        "button: Mit 👍 reagieren",
        "div: Nachrichten",
        "textarea: Nachricht schreiben",
    ])
        assert.ok(places.includes(place), `${place} by keyboard: ${places.join(", ")}`);

    step("what looks like a program stays a text");
    await write(bob, HOSTILE);
    await message(alice, HOSTILE).waitFor();
    assert.equal(await message(alice, HOSTILE).locator(".text *").count(), 0);

    step("the server is restarted while both write");
    const restarted = restartServer("kill");
    await alice.getByText("Keine Verbindung zum Server").waitFor();
    await write(alice, "in der Pause 1");
    await write(alice, "in der Pause 2");
    await restarted;
    await message(bob, "in der Pause 2").waitFor();
    await message(alice, "in der Pause 2").waitFor();
    await alice.getByText("Keine Verbindung zum Server").waitFor({ state: "detached" });
    await write(bob, "Da bist du ja");
    await message(alice, "Da bist du ja").waitFor();
    const said = await alice.locator(".message .text").allTextContents();
    assert.deepEqual(said.slice(-3), ["in der Pause 1", "in der Pause 2", "Da bist du ja"]);

    step("another person in the conversation, who leaves again");
    await alice.getByRole("button", { name: "Einladen" }).click();
    await alice.getByRole("searchbox").fill("emine");
    await alice.getByRole("dialog").getByRole("button", { name: "Emine" }).click();
    await alice.getByText("Emine Yıldız ist eingeladen.").waitFor();
    await accessible(alice, "inviting");
    await alice.keyboard.press("Escape");
    assert.equal(await focused(alice), "button: Einladen");
    await bob.getByText("Alice Müller hat Emine Yıldız eingeladen").waitFor();
    await bob.getByRole("button", { name: "Verlassen" }).click();
    await bob.getByRole("dialog").getByRole("button", { name: "Verlassen" }).click();
    await alice.getByText("Bob Schäfer hat den Raum verlassen").waitFor();

    step("English, a new room, and the end");
    await alice.getByRole("button", { name: "EN", exact: true }).click();
    await alice.getByText("Bob Schäfer left the room").waitFor();
    await alice.getByRole("button", { name: "New room" }).click();
    await alice.getByRole("textbox", { name: "Name of the room" }).fill("Analysis I");
    await alice.keyboard.press("Enter");
    await alice.getByRole("heading", { name: "Analysis I" }).waitFor();
    await alice.reload();
    await alice.getByText("Alice Müller created the room").waitFor();
    await alice.getByRole("button", { name: "Log out" }).click();
    await alice.getByRole("heading", { name: "Who would you like to be?" }).waitFor();
    assert.equal(await alice.evaluate(() => sessionStorage.length), 0);
});
