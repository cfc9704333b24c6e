// Two demo people with matrix-js-sdk, one of them through its SlidingSync class: a window over the rooms, then what is
// new, over a restart of the server.

import assert from "node:assert/strict";
import { ReceiptType } from "matrix-js-sdk";
import { SlidingSync, SlidingSyncEvent } from "matrix-js-sdk/lib/sliding-sync.js";
import { events, journey, logIn, refused, restartServer, say, sees, step, until } from "./kit.mjs";

const ROOMS = 6;

async function sharedRooms(alice, bob) {
    const ids = [];
    for (let n = 0; n < ROOMS; n++) {
        const { room_id: roomId } = await alice.createRoom({ name: `Raum ${n}`, invite: [bob.getUserId()] });
        await bob.joinRoom(roomId);
        ids.push(roomId);
    }
    for (const roomId of ids) for (const body of ["eins", "zwei", "drei"]) await say(alice, roomId, body);
    return ids; // the last one is the one with the newest message
}

await journey(async (url) => {
    const alice = await logIn(url, "alice");
    const bob = await logIn(url, "bob");
    assert.ok(await bob.doesServerSupportUnstableFeature("org.matrix.simplified_msc3575"));
    const ids = await sharedRooms(alice, bob);
    const [oldest, top] = [ids[0], ids[ROOMS - 1]];

    step("the first window: two rooms, named, with two events each");
    const state = [["m.room.name", ""], ["m.room.member", "$ME"]];
    const list = { ranges: [[0, 1]], timeline_limit: 2, required_state: state };
    const told = new Map();
    let sliding;
    const tablet = await logIn(url, "bob", {
        slidingSync: (client) => {
            const whole = { timeline_limit: 20, required_state: [["*", "*"]] };
            sliding = new SlidingSync(url, new Map([["all", list]]), whole, client, 20_000);
            sliding.on(SlidingSyncEvent.RoomData, (roomId, data) => told.set(roomId, data));
            return sliding;
        },
    });
    await until("both rooms", () => told.size === 2);
    assert.deepEqual([...told.keys()].sort(), ids.slice(-2).sort());
    assert.equal(sliding.getListData("all").joinedCount, ROOMS);
    const first = told.get(top);
    assert.equal(first.name, `Raum ${ROOMS - 1}`);
    assert.equal(first.initial, true);
    assert.equal(first.joined_count, 2);
    assert.deepEqual(first.timeline.map((event) => event.content.body), ["zwei", "drei"]);
    assert.deepEqual(first.required_state.map((event) => event.type).sort(), ["m.room.member", "m.room.name"]);
    assert.equal(tablet.getRoom(top).getMyMembership(), "join");
    assert.equal(tablet.getRoom(oldest), null);

    step("a message moves a room from outside into the window");
    const moved = await say(alice, oldest, "vier");
    const shown = await sees(tablet, oldest, moved);
    assert.equal(shown.getContent().body, "vier");
    assert.equal(told.size, 3);

    step("a wider window brings the other rooms");
    sliding.setListRanges("all", [[0, 19]]);
    await until("all rooms", () => told.size === ROOMS);
    for (const roomId of ids) assert.equal(tablet.getRoom(roomId).getMyMembership(), "join");

    step("an open room: its state and history, typing and receipts");
    sliding.modifyRoomSubscriptions(new Set([top]));
    const room = tablet.getRoom(top);
    await until("its whole state", () => room.currentState.getStateEvents("m.room.power_levels", ""));
    assert.equal(room.currentState.getStateEvents("m.room.create", "").getSender(), alice.getUserId());
    assert.ok(room.getMember(alice.getUserId()));
    await until("more of its history", () => events(tablet, top).some((event) => event.getContent().body === "eins"));
    await alice.sendTyping(top, true, 30_000);
    await until("alice types", () => room.getMember(alice.getUserId()).typing);
    const mine = await say(tablet, top, "Ich lese mit");
    await sees(tablet, top, mine);
    await alice.sendReadReceipt(await sees(alice, top, mine), ReceiptType.Read);
    await until("alice has read it", () => room.hasUserReadEvent(alice.getUserId(), mine));
    const bodies = events(tablet, top).map((event) => event.getContent().body).filter(Boolean);
    assert.equal(new Set(bodies).size, bodies.length, `nothing comes twice: ${bodies}`);

    step("account data, and unread counts");
    await bob.setAccountData("de.heichat.test", { colour: "blue" });
    await until("account data", () => tablet.getAccountData("de.heichat.test")?.getContent().colour === "blue");
    await bob.setRoomTag(top, "m.favourite", { order: 0.5 });
    await until("a tag", () => "m.favourite" in room.tags);
    const unread = await say(alice, top, "Gesehen?");
    await until("it is unread", () => room.getUnreadNotificationCount("total") === 1);
    await bob.sendReadReceipt(await sees(bob, top, unread), ReceiptType.Read);
    await until("read on the other device", () => room.getUnreadNotificationCount("total") === 0);

    step("an invitation");
    const { room_id: invited } = await alice.createRoom({ name: "Neu", invite: [bob.getUserId()] });
    await until("the invitation", () => tablet.getRoom(invited)?.getMyMembership() === "invite");
    assert.equal(tablet.getRoom(invited).name, "Neu");

    step("the server restarts, and the connection goes on where it was");
    await refused("M_UNKNOWN_POS", tablet.slidingSync({ pos: "0123456789", lists: {} }, url));
    told.clear();
    await restartServer();
    const last = await say(alice, top, "Zum Schluss");
    await sees(tablet, top, last);
    assert.deepEqual([...told.keys()], [top]);
    assert.ok(!told.get(top).initial, "only what is new");
    assert.deepEqual(told.get(top).timeline.map((event) => event.event_id), [last]);
    for (const client of [alice, bob, tablet]) await client.logout(true);
});
