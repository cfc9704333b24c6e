// Two demo people with matrix-js-sdk: from the first login over the terms of use to a chat that outlives a restart.

import assert from "node:assert/strict";
import { Preset, ReceiptType } from "matrix-js-sdk";
import { events, goThroughTerms, journey, logIn, refused, restartServer, say, sees, step, until } from "./kit.mjs";

const MESSAGES = 500;

async function closedRoom(alice, bob) {
    step("alice creates a closed room and invites bob, who joins");
    const error = await refused("M_FORBIDDEN", alice.createRoom({ preset: Preset.PublicChat, name: "Für alle" }));
    assert.match(error.message, /geschlossene/);
    const { room_id: roomId } = await alice.createRoom({ name: "Seminar", topic: "Lineare Algebra" });
    await alice.invite(roomId, bob.getUserId());
    const invited = await until("bob is invited", () => bob.getRoom(roomId));
    assert.equal(invited.name, "Seminar");
    assert.equal(invited.getMyMembership(), "invite");
    await bob.joinRoom(roomId);
    const room = await until("bob is in the room", () => {
        const one = bob.getRoom(roomId);
        return one.getMyMembership() === "join" && one.currentState.getStateEvents("m.room.topic", "") && one;
    });
    assert.equal(room.currentState.getStateEvents("m.room.topic", "").getContent().topic, "Lineare Algebra");
    assert.equal(room.getJoinRule(), "invite");
    await until("alice sees bob join", () => alice.getRoom(roomId).getMember(bob.getUserId())?.membership === "join");
    return roomId;
}

async function chat(alice, bob, roomId) {
    step("they chat both ways, see typing and receipts");
    const [aliceId, bobId] = [alice.getUserId(), bob.getUserId()];
    await alice.sendTyping(roomId, true, 30_000);
    await until("bob sees alice typing", () => bob.getRoom(roomId).getMember(aliceId)?.typing);
    const question = await say(alice, roomId, "Wann treffen wir uns? 🕐");
    await alice.sendTyping(roomId, false, 0);
    await until("bob sees alice pausing", () => !bob.getRoom(roomId).getMember(aliceId).typing);
    const heard = await sees(bob, roomId, question);
    assert.equal(heard.getContent().body, "Wann treffen wir uns? 🕐");
    assert.equal(heard.getSender(), aliceId);
    assert.equal(heard.sender.name, "Alice Müller");
    await until("bob has an unread message", () => bob.getRoom(roomId).getUnreadNotificationCount("total") === 1);
    await bob.sendReadReceipt(heard, ReceiptType.Read);
    await until("alice sees that bob has read it", () => alice.getRoom(roomId).hasUserReadEvent(bobId, question));
    await until("bob has read everything", () => bob.getRoom(roomId).getUnreadNotificationCount("total") === 0);
    const answer = await say(bob, roomId, "Um elf.");
    assert.equal((await sees(alice, roomId, answer)).getContent().body, "Um elf.");
    return answer;
}

async function changeMessages(alice, bob, roomId, answer) {
    step("an edit, a reaction, a redaction");
    const edit = await say(bob, roomId, "* Um zwölf.", {
        "m.new_content": { msgtype: "m.text", body: "Um zwölf." },
        "m.relates_to": { rel_type: "m.replace", event_id: answer },
    });
    const seen = await sees(alice, roomId, answer);
    await until("alice sees the edit", () => seen.replacingEventId() === edit && seen.getContent().body === "Um zwölf.");
    const relation = { rel_type: "m.annotation", event_id: answer, key: "👍" };
    await alice.sendEvent(roomId, "m.reaction", { "m.relates_to": relation });
    const reactions = await until("bob sees the reaction", () =>
        bob.getRoom(roomId).relations.getChildEventsForEvent(answer, "m.annotation", "m.reaction"),
    );
    const [[key, by]] = reactions.getSortedAnnotationsByKey();
    assert.deepEqual([key, [...by].map((event) => event.getSender())], ["👍", [alice.getUserId()]]);
    const slip = await say(alice, roomId, "Das war falsch.");
    const told = await sees(bob, roomId, slip);
    await alice.redactEvent(roomId, slip, undefined, { reason: "Vertippt" });
    await until("bob sees the redaction", () => told.isRedacted());
    assert.deepEqual(told.getContent(), {});
    assert.equal(told.getUnsigned().redacted_because.content.reason, "Vertippt");
    const mine = await say(alice, roomId, "Meins");
    await sees(bob, roomId, mine);
    await refused("M_FORBIDDEN", bob.redactEvent(roomId, mine));
}

async function pageBack(url, alice, bob, roomId) {
    step(`${MESSAGES} messages, and a new device of bob pages back through all of them`);
    const sent = [];
    for (let n = 0; n < MESSAGES; n++) sent.push(await say(n % 2 ? bob : alice, roomId, `Nachricht ${n}`));
    const tablet = await logIn(url, "bob", { initialSyncLimit: 20 });
    const room = tablet.getRoom(roomId);
    assert.ok(events(tablet, roomId).length <= 20);
    for (let pages = 0; room.oldState.paginationToken !== null; pages++) {
        assert.ok(pages < 40, "paging back comes to no end");
        await tablet.scrollback(room, 50);
    }
    const all = events(tablet, roomId);
    const ids = all.map((event) => event.getId());
    assert.equal(new Set(ids).size, ids.length, "no event comes twice");
    const numbered = all.filter((event) => /^Nachricht \d+$/.test(event.getContent().body ?? ""));
    assert.deepEqual(numbered.map((event) => event.getId()), sent);
    assert.equal(all[0].getType(), "m.room.create");
    const edited = all.find((event) => event.getContent().body === "Um zwölf.");
    assert.ok(edited?.replacingEventId(), "history shows the edit");
    await tablet.logout(true);
}

async function outliveRestart(alice, bob, roomId) {
    step("the server restarts, and their syncs go on");
    const last = await say(alice, roomId, "Vor dem Neustart");
    await sees(bob, roomId, last);
    const before = events(bob, roomId).length;
    await restartServer();
    const text = await say(alice, roomId, "Nach dem Neustart");
    await until("bob's sync goes on", () => {
        bob.retryImmediately(); // as Element does when the network is back; otherwise it waits some seconds
        alice.retryImmediately();
        return events(bob, roomId).length > before;
    });
    assert.deepEqual(events(bob, roomId).slice(before).map((event) => event.getId()), [text]);
    const reply = await say(bob, roomId, "Weiter geht's");
    await sees(alice, roomId, reply);
    for (const client of [alice, bob]) {
        const ids = events(client, roomId).map((event) => event.getId());
        assert.equal(new Set(ids).size, ids.length, "no event was given twice");
    }
}

await journey(async (url) => {
    const alice = await logIn(url, "alice", { crypto: true });
    const bob = await logIn(url, "bob", { crypto: true });
    for (const client of [alice, bob]) await goThroughTerms(client);
    const roomId = await closedRoom(alice, bob);
    const answer = await chat(alice, bob, roomId);
    await changeMessages(alice, bob, roomId, answer);
    await pageBack(url, alice, bob, roomId);
    await outliveRestart(alice, bob, roomId);
    for (const client of [alice, bob]) await client.logout(true);
});
