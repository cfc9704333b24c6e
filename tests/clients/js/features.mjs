// Two demo people with matrix-js-sdk: everything beside plain chat that a client can show. Threads, edits, reactions,
// polls, search, media, spaces, push rules, upgrades and knocks.

import assert from "node:assert/strict";
import { crc32, deflateSync } from "node:zlib";
import { PushRuleKind, ReceiptType, RoomType } from "matrix-js-sdk";
import { M_POLL_KIND_DISCLOSED } from "matrix-js-sdk/lib/@types/polls.js";
import { PollEndEvent } from "matrix-js-sdk/lib/extensible_events_v1/PollEndEvent.js";
import { PollResponseEvent } from "matrix-js-sdk/lib/extensible_events_v1/PollResponseEvent.js";
import { PollStartEvent } from "matrix-js-sdk/lib/extensible_events_v1/PollStartEvent.js";
import { RoomHierarchy } from "matrix-js-sdk/lib/room-hierarchy.js";
import { journey, logIn, refused, say, sees, step, until } from "./kit.mjs";

const THREADS = { threadSupport: true };

function isMember(client, roomId, userId) {
    return client.getRoom(roomId)?.getMember(userId)?.membership === "join";
}

async function room(alice, bob, options = {}) {
    const { room_id: roomId } = await alice.createRoom({ invite: [bob.getUserId()], ...options });
    await until("bob is invited", () => bob.getRoom(roomId)?.getMyMembership() === "invite");
    await bob.joinRoom(roomId);
    await until("bob is in the room", () => bob.getRoom(roomId).getMyMembership() === "join");
    await until("alice sees bob join", () => isMember(alice, roomId, bob.getUserId()));
    return roomId;
}

/** A picture of one colour, as a PNG file. */
function png(width, height) {
    const chunk = (type, data) => {
        const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
        const frame = Buffer.alloc(8 + body.length);
        frame.writeUInt32BE(data.length, 0);
        body.copy(frame, 4);
        frame.writeUInt32BE(crc32(body), 4 + body.length);
        return frame;
    };
    const header = Buffer.alloc(13);
    header.writeUInt32BE(width, 0);
    header.writeUInt32BE(height, 4);
    header.set([8, 2], 8); // eight bits for each of red, green and blue
    const row = Buffer.alloc(1 + 3 * width, 90);
    row[0] = 0; // no filter
    const rows = deflateSync(Buffer.concat(Array(height).fill(row)));
    const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
    return Buffer.concat([signature, chunk("IHDR", header), chunk("IDAT", rows), chunk("IEND", Buffer.alloc(0))]);
}

/** Width and height that the header of a PNG or JPEG file tells. */
function pictureSize(data) {
    if (data.subarray(1, 4).toString("latin1") === "PNG") return [data.readUInt32BE(16), data.readUInt32BE(20)];
    assert.equal(data.readUInt16BE(0), 0xffd8, "neither PNG nor JPEG");
    for (let at = 2; at < data.length; at += 2 + data.readUInt16BE(at + 2)) {
        if (data[at + 1] >= 0xc0 && data[at + 1] <= 0xc2) return [data.readUInt16BE(at + 7), data.readUInt16BE(at + 5)];
    }
    return assert.fail("a JPEG without a size");
}

async function threads(url, alice, bob) {
    step("a thread: list, summary, receipts of its own");
    const roomId = await room(alice, bob, { name: "Fäden" });
    const root = await say(alice, roomId, "Wer bringt Kuchen mit?");
    await sees(bob, roomId, root);
    const hers = alice.getRoom(roomId).createThread(root, await sees(alice, roomId, root), [], true); // as Element does
    const plain = await say(alice, roomId, "Und sonst?");
    const heard = await sees(bob, roomId, plain);
    await bob.sendReadReceipt(heard, ReceiptType.Read);
    const shown = bob.getRoom(roomId);
    await until("bob has read the main timeline", () => shown.getUnreadNotificationCount("total") === 0);
    const replies = [];
    for (const body of ["Ich!", "Ich auch"]) {
        replies.push((await alice.sendEvent(roomId, root, "m.room.message", { msgtype: "m.text", body })).event_id);
    }
    const thread = await until("bob has the thread", () => shown.getThread(root));
    await until("bob sees the last reply", () => thread.replyToEvent?.getId() === replies[1]);
    // Its length is not looked at: the SDK counts a reply twice that comes while it asks for the summary.
    await until("bob has both replies", () => replies.every((id) => thread.findEventById(id)));
    assert.equal(shown.getLiveTimeline().getEvents().some((event) => replies.includes(event.getId())), false);
    await until("the thread is unread", () => shown.getThreadUnreadNotificationCount(root, "total") === 2);
    assert.equal(shown.getRoomUnreadNotificationCount("total"), 0, "the main timeline is not");
    await bob.sendReadReceipt(thread.replyToEvent, ReceiptType.Read);
    await until("the thread is read", () => shown.getThreadUnreadNotificationCount(root, "total") === 0);
    await until("alice sees that", () => hers.getEventReadUpTo(bob.getUserId()) === replies[1]);
    assert.equal(alice.getRoom(roomId).getEventReadUpTo(bob.getUserId()), plain, "the main receipt stays");

    const tablet = await logIn(url, "bob", THREADS);
    const fresh = tablet.getRoom(roomId);
    const bundle = fresh.findEventById(root).getServerAggregatedRelation("m.thread");
    assert.equal(bundle.count, 2);
    assert.equal(bundle.latest_event.event_id, replies[1]);
    assert.equal(bundle.current_user_participated, false);
    await fresh.createThreadsTimelineSets();
    await fresh.fetchRoomThreads();
    const [all, own] = fresh.threadsTimelineSets.map((set) => set.getLiveTimeline().getEvents().map((e) => e.getId()));
    assert.deepEqual(all, [root]);
    assert.deepEqual(own, [], "bob has not taken part");
    const loaded = fresh.getThread(root);
    await until("its events are loaded", () => loaded.initialEventsFetched);
    assert.deepEqual(loaded.events.map((event) => event.getId()), [root, ...replies]);
    await tablet.logout(true);
}

async function changes(url, alice, bob) {
    step("edits and reactions, live and bundled");
    const roomId = await room(alice, bob, { name: "Änderungen" });
    const first = await say(alice, roomId, "Um elf.");
    const edit = await say(alice, roomId, "* Um zwölf.", {
        "m.new_content": { msgtype: "m.text", body: "Um zwölf." },
        "m.relates_to": { rel_type: "m.replace", event_id: first },
    });
    const keys = [[alice, "👍"], [bob, "👍"], [bob, "🎉"]];
    const reactions = [];
    for (const [who, key] of keys) {
        const relation = { rel_type: "m.annotation", event_id: first, key };
        reactions.push((await who.sendEvent(roomId, "m.reaction", { "m.relates_to": relation })).event_id);
    }
    const twice = { rel_type: "m.annotation", event_id: first, key: "🎉" };
    await refused("M_DUPLICATE_ANNOTATION", bob.sendEvent(roomId, "m.reaction", { "m.relates_to": twice }));
    const tally = () => {
        const all = alice.getRoom(roomId).relations.getChildEventsForEvent(first, "m.annotation", "m.reaction");
        return JSON.stringify((all?.getSortedAnnotationsByKey() ?? []).map(([key, by]) => [key, by.size]));
    };
    await until("alice counts", () => tally() === '[["👍",2],["🎉",1]]');
    await bob.redactEvent(roomId, reactions[2]);
    await until("one reaction is gone", () => tally() === '[["👍",2],["🎉",0]]');
    const bundled = await alice.fetchRoomEvent(roomId, first);
    assert.equal(bundled.unsigned["m.relations"]["m.replace"].event_id, edit);
    assert.equal(bundled.unsigned["m.relations"]["m.replace"].content["m.new_content"].body, "Um zwölf.");
    const tablet = await logIn(url, "bob", { initialSyncLimit: 4 }); // the first two events are not in it
    assert.equal(tablet.getRoom(roomId).findEventById(first), undefined);
    const set = tablet.getRoom(roomId).getUnfilteredTimelineSet();
    const timeline = await tablet.getEventTimeline(set, first);
    const seen = timeline.getEvents().find((event) => event.getId() === first);
    await until("a new device shows the edited text", () => seen.getContent().body === "Um zwölf.");
    const found = await tablet.relations(roomId, first, "m.annotation", "m.reaction");
    assert.deepEqual(found.events.map((event) => event.getId()), [reactions[1], reactions[0]]);
    await tablet.logout(true);
}

async function poll(alice, bob) {
    step("a poll");
    const roomId = await room(alice, bob, { name: "Umfrage" });
    const send = (client, part) => {
        const { type, content } = part.serialize();
        return client.sendEvent(roomId, type, content);
    };
    const question = PollStartEvent.from("Wann?", ["Montag", "Dienstag"], M_POLL_KIND_DISCLOSED.name);
    const { event_id: start } = await send(alice, question);
    const shown = await until("bob has the poll", () => bob.getRoom(roomId).polls.get(start));
    const [monday, tuesday] = shown.pollEvent.answers.map((answer) => answer.id);
    await send(bob, PollResponseEvent.from([monday], start));
    await send(bob, PollResponseEvent.from([tuesday], start)); // the last one counts
    await send(alice, PollResponseEvent.from([tuesday], start));
    const answers = await shown.getResponses();
    await until("bob has all three answers", () => answers.getRelations().length === 3);
    const last = new Map();
    for (const event of answers.getRelations().sort((one, two) => one.getTs() - two.getTs())) {
        last.set(event.getSender(), event);
    }
    assert.equal(last.size, 2);
    await send(alice, PollEndEvent.from(start, "Dienstag"));
    await until("the poll is over", () => shown.isEnded);
    const whole = await alice.relations(roomId, start, "m.reference");
    assert.equal(whole.events.length, 4);
}

async function search(alice, bob) {
    step("search, with what stands around the result");
    const roomId = await room(alice, bob, { name: "Suche" });
    const ids = [];
    const bodies = ["Vorher", "Die Eigenvektoren sind orthogonal", "Nachher"];
    for (const body of bodies) ids.push(await say(alice, roomId, body));
    const found = await until("the message is found", async () => {
        const answer = await bob.searchRoomEvents({ term: "eigenvektoren", filter: { rooms: [roomId] } });
        return answer.count ? answer : null;
    });
    assert.equal(found.count, 1);
    assert.ok(found.highlights.includes("eigenvektoren"), JSON.stringify(found.highlights));
    const { context } = found.results[0];
    assert.equal(context.getEvent().getId(), ids[1]);
    const around = context.getTimeline().map((event) => event.getContent().body);
    assert.deepEqual(around, bodies);
    const { room_id: secret } = await alice.createRoom({ name: "Ohne bob" });
    const hidden = await say(alice, secret, "Eigenvektoren, die bob nichts angehen");
    const finds = async (client) => {
        const { results } = await client.searchRoomEvents({ term: "Eigenvektoren" });
        return results.map((one) => one.context.getEvent().getId());
    };
    await until("alice finds both", async () => (await finds(alice)).includes(hidden));
    assert.deepEqual(await finds(bob), [ids[1]]);
}

async function media(alice, bob) {
    step("a picture goes up, and comes down whole and small");
    const picture = png(400, 200);
    const { content_uri: uri } = await alice.uploadContent(picture, { name: "Tafelbild.png", type: "image/png" });
    assert.match(uri, /^mxc:\/\//);
    const get = (link, token) => fetch(link, { headers: token ? { Authorization: `Bearer ${token}` } : {} });
    const link = bob.mxcUrlToHttp(uri, undefined, undefined, undefined, false, true, true);
    assert.match(link, /\/_matrix\/client\/v1\/media\/download\//);
    const whole = await get(link, bob.getAccessToken());
    assert.equal(whole.status, 200);
    assert.equal(whole.headers.get("content-type"), "image/png");
    assert.match(whole.headers.get("content-disposition"), /Tafelbild\.png/);
    assert.deepEqual(Buffer.from(await whole.arrayBuffer()), picture);
    const small = await get(bob.mxcUrlToHttp(uri, 100, 100, "scale", false, true, true), bob.getAccessToken());
    assert.equal(small.status, 200);
    const [width, height] = pictureSize(Buffer.from(await small.arrayBuffer()));
    assert.ok(width >= 100 && width < 400 && width === 2 * height, `${width} x ${height}`);
    assert.equal((await get(link)).status, 401, "not without a token");
    assert.equal((await get(bob.mxcUrlToHttp(uri), bob.getAccessToken())).status, 404, "nor at the deprecated address");
    const { "m.upload.size": limit } = await alice.getMediaConfig();
    assert.ok(limit > picture.length);
}

async function spaces(alice, bob) {
    step("a space and its rooms");
    const via = [alice.getDomain()];
    const space = await room(alice, bob, { name: "Fachbereich", creation_content: { type: RoomType.Space } });
    assert.ok(bob.getRoom(space).isSpaceRoom());
    const allow = [{ type: "m.room_membership", room_id: space }];
    const rules = { type: "m.room.join_rules", state_key: "", content: { join_rule: "restricted", allow } };
    const { room_id: open } = await alice.createRoom({ name: "Kaffee", initial_state: [rules] });
    const { room_id: closed } = await alice.createRoom({ name: "Vorstand" });
    await alice.sendStateEvent(space, "m.space.child", { via, suggested: true, order: "a" }, open);
    await alice.sendStateEvent(space, "m.space.child", { via, order: "b" }, closed);
    const children = () => bob.getRoom(space).currentState.getStateEvents("m.space.child");
    await until("bob sees both children", () => children().length === 2);
    const names = async (client) => {
        const hierarchy = new RoomHierarchy(client.getRoom(space), 1); // a page for each room
        while (hierarchy.canLoadMore) await hierarchy.load();
        return [hierarchy, hierarchy.rooms.map((one) => one.name)];
    };
    assert.deepEqual((await names(alice))[1], ["Fachbereich", "Kaffee", "Vorstand"]);
    const [his, shown] = await names(bob);
    assert.deepEqual(shown, ["Fachbereich", "Kaffee"]);
    assert.equal(his.isSuggested(space, open), true);
    assert.equal(his.rooms[1].join_rule, "restricted");
    await refused("M_FORBIDDEN", bob.joinRoom(closed));
    await bob.joinRoom(open);
    const coffee = await until("bob is in", () => isMember(bob, open, bob.getUserId()) && bob.getRoom(open));
    const me = coffee.getMember(bob.getUserId()).events.member;
    assert.equal(me.getContent().join_authorised_via_users_server, alice.getUserId());
}

async function pushRules(alice, bob) {
    step("push rules: a muted room, a keyword");
    const roomId = await room(alice, bob, { name: "Lärm" });
    const shown = bob.getRoom(roomId);
    const counts = (total, highlight) =>
        until(`${total} unread, ${highlight} of them highlighted`, () =>
            shown.getUnreadNotificationCount("total") === total &&
            shown.getUnreadNotificationCount("highlight") === highlight);
    await say(alice, roomId, "Klausur ist wichtig");
    await counts(1, 0);
    const actions = ["notify", { set_tweak: "highlight" }];
    await bob.addPushRule("global", PushRuleKind.ContentSpecific, "klausur", { pattern: "klausur", actions });
    const mine = () => bob.pushRules.global.content.some((rule) => rule.rule_id === "klausur");
    await until("the rule comes by sync", mine);
    await say(alice, roomId, "Die Klausur ist am Montag");
    await counts(2, 1);
    await bob.deletePushRule("global", PushRuleKind.ContentSpecific, "klausur");
    await until("the rule is gone", () => !mine());
    await bob.setRoomMutePushRule("global", roomId, true);
    const muted = () => bob.pushRules.global.room.some((rule) => rule.rule_id === roomId);
    await until("the room is muted", muted);
    const quiet = await say(alice, roomId, "Die Klausur ist doch am Dienstag");
    await bob.sendReadReceipt(await sees(bob, roomId, await say(alice, roomId, "Das war's")), ReceiptType.Read);
    await counts(0, 0);
    assert.ok(shown.findEventById(quiet));
    const more = await sees(bob, roomId, await say(alice, roomId, "Noch etwas"));
    assert.equal(shown.getUnreadNotificationCount("total"), 0, "no count in a muted room");
    await bob.setRoomMutePushRule("global", roomId, false);
    await until("the room is not muted", () => !muted());
    await bob.sendReadReceipt(more, ReceiptType.Read);
    await say(alice, roomId, "Wieder laut");
    await counts(1, 0);
}

async function upgrade(alice, bob) {
    step("an upgrade of a room");
    const old = await room(alice, bob, { name: "Alt", topic: "bleibt", room_version: "10" });
    await refused("M_FORBIDDEN", bob.upgradeRoom(old, "11"));
    const { replacement_room: fresh } = await alice.upgradeRoom(old, "11");
    const tombstone = await until("bob sees the tombstone", () =>
        bob.getRoom(old).currentState.getStateEvents("m.room.tombstone", ""));
    assert.equal(tombstone.getContent().replacement_room, fresh);
    await refused("M_FORBIDDEN", bob.sendTextMessage(old, "noch da?"));
    const shown = await until("alice has the new room", () => alice.getRoom(fresh));
    assert.equal(shown.getVersion(), "11");
    assert.equal(shown.name, "Alt");
    assert.equal(shown.findPredecessor().roomId, old);
    assert.equal(shown.currentState.getStateEvents("m.room.topic", "").getContent().topic, "bleibt");
    await alice.invite(fresh, bob.getUserId());
    await bob.joinRoom(fresh);
    await until("bob is there too", () => isMember(alice, fresh, bob.getUserId()));
}

async function knock(alice, bob) {
    step("a knock at a door");
    const rules = { type: "m.room.join_rules", state_key: "", content: { join_rule: "knock" } };
    const { room_id: roomId } = await alice.createRoom({ name: "Sprechstunde", initial_state: [rules] });
    await refused("M_FORBIDDEN", bob.joinRoom(roomId));
    await bob.knockRoom(roomId, { reason: "Ich habe eine Frage" });
    const outside = await until("bob sees where he knocked", () => bob.getRoom(roomId));
    assert.equal(outside.getMyMembership(), "knock");
    assert.equal(outside.name, "Sprechstunde");
    const heard = await until("alice hears it", () => {
        const member = alice.getRoom(roomId)?.getMember(bob.getUserId());
        return member?.membership === "knock" && member;
    });
    assert.equal(heard.events.member.getContent().reason, "Ich habe eine Frage");
    await alice.invite(roomId, bob.getUserId());
    await until("bob is invited", () => outside.getMyMembership() === "invite");
    await bob.joinRoom(roomId);
    await until("bob is in", () => isMember(alice, roomId, bob.getUserId()));
}

await journey(async (url) => {
    const alice = await logIn(url, "alice", THREADS);
    const bob = await logIn(url, "bob", THREADS);
    await threads(url, alice, bob);
    await changes(url, alice, bob);
    await poll(alice, bob);
    await search(alice, bob);
    await media(alice, bob);
    await spaces(alice, bob);
    await pushRules(alice, bob);
    await upgrade(alice, bob);
    await knock(alice, bob);
    for (const client of [alice, bob]) await client.logout(true);
});
