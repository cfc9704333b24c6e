// People with matrix-js-sdk: log in, sync all the time, and wait for what they should see.
//
// Every journey is `node SCRIPT.mjs URL`, run by tests/clients/driver.py, which says what the lines that begin with @ mean.

import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import * as sdk from "matrix-js-sdk";
import { logger } from "matrix-js-sdk/lib/logger.js";

const SECONDS = 20;
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const clients = [];
const ignore = () => {};
const sdkLog = { trace: ignore, debug: ignore, info: ignore, warn: ignore, error: ignore, getChild: () => sdkLog };
for (const level of ["debug", "info", "warn"]) console[level] = ignore; // the Rust crypto tells of every message

/** Tell what comes next. */
export function step(text) {
    console.log(text);
}

/** Ask whoever runs this journey for a restart of the server (`how`: also "kill", for kill -9), and wait for it. */
export async function restartServer(how = "restart") {
    console.log(`@${how}`);
    assert.equal((await lines.next()).value, "restarted");
}

/** Run a journey: `go(url)`, then end, with a status that tells how it went. */
export async function journey(go) {
    logger.setLevel("error", false);
    try {
        await go(process.argv[2]);
        step("@done");
    } catch (error) {
        console.log(error?.stack ?? error);
        process.exitCode = 1;
    }
    for (const client of clients) client.stopClient();
    process.exit();
}

/** Look again until `find` finds something (promises are waited for); `what` is told if it never does. */
export async function until(what, find, seconds = SECONDS) {
    step(`  waits: ${what}`);
    const end = Date.now() + seconds * 1000;
    for (;;) {
        const found = await find();
        if (found) return found;
        assert.ok(Date.now() < end, `not within ${seconds} s: ${what}`);
        await new Promise((resolve) => setTimeout(resolve, 10)); // between two questions, not for something to happen
    }
}

/** The error that a call must end with, whose code must be `errcode`. */
export async function refused(errcode, call) {
    const error = await call.then(
        (value) => assert.fail(`not refused with ${errcode}: ${JSON.stringify(value)}`),
        (reason) => reason,
    );
    assert.equal(error.errcode, errcode, String(error));
    return error;
}

/**
 * Log a demo person in, on a new device, and sync from now on.
 * Options: `crypto` (with the Rust crypto, keys in memory), `cryptoCallbacks` as createClient takes them, `slidingSync`
 * (makes the SlidingSync for the client that it is given), and whatever startClient takes.
 */
export async function logIn(url, uniId, { crypto = false, cryptoCallbacks, slidingSync, ...start } = {}) {
    const login = await sdk.createClient({ baseUrl: url }).loginRequest({
        type: "m.login.password",
        identifier: { type: "m.id.user", user: uniId },
        password: `${uniId}-demo`,
        initial_device_display_name: "journey of matrix-js-sdk",
    });
    assert.match(login.user_id, new RegExp(`^@${uniId}:`));
    const client = sdk.createClient({
        baseUrl: url,
        userId: login.user_id,
        deviceId: login.device_id,
        accessToken: login.access_token,
        timelineSupport: true,
        cryptoCallbacks,
        logger: sdkLog,
    });
    clients.push(client);
    if (crypto) await client.initRustCrypto({ useIndexedDB: false });
    await client.startClient({ lazyLoadMembers: true, slidingSync: slidingSync?.(client), ...start });
    await until(`${uniId} has synced`, () => client.getSyncState() === sdk.SyncState.Syncing);
    return client;
}

/** The events of a room that a client has seen, oldest first. */
export function events(client, roomId) {
    return client.getRoom(roomId)?.getLiveTimeline().getEvents() ?? [];
}

/** Wait for an event in a room. */
export function sees(client, roomId, eventId) {
    return until(`${client.getUserId()} sees ${eventId}`, () =>
        events(client, roomId).find((event) => event.getId() === eventId),
    );
}

/** Send a text message; the event ID. */
export async function say(client, roomId, body, extra = {}) {
    return (await client.sendEvent(roomId, "m.room.message", { msgtype: "m.text", body, ...extra })).event_id;
}

/** Open the page with the terms in German, press "Einverstanden", and return the page that follows. */
async function agreeInBrowser(link) {
    const shown = await fetch(link, { headers: { "Accept-Language": "de-DE,de;q=0.9" } });
    const page = await shown.text();
    assert.equal(shown.status, 200, page);
    const form = page.match(/<form method="post" action="([^"]+)">([\s\S]*?)<\/form>/);
    assert.ok(form, page);
    assert.equal(form[2].match(/<button type="submit"[^>]*>([^<]*)</)[1].trim(), "Einverstanden");
    const fields = new URLSearchParams();
    for (const [, name, value] of form[2].matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)">/g)) {
        fields.set(name, value.replaceAll("&#34;", '"').replaceAll("&amp;", "&"));
    }
    const answer = await fetch(new URL(form[1], link), {
        method: "POST",
        body: fields,
        headers: { Origin: new URL(link).origin, "Sec-Fetch-Site": "same-origin" },
    });
    const next = await answer.text();
    assert.equal(answer.status, 200, next);
    return next;
}

/** Go through the notices room and the terms page; before that, creating a room is refused. */
export async function goThroughTerms(client) {
    const me = client.getUserId();
    step(`${me} is invited to the notices room and agrees to the terms`);
    const room = await until("the invitation to Server Notices", () =>
        client.getRooms().find((one) => one.getMyMembership() === "invite"),
    );
    assert.equal(room.name, "Server Notices");
    const administrator = room.getMember(me).events.member.getSender();
    assert.match(administrator, /^@administrator:/);
    const error = await refused("M_CONSENT_NOT_GIVEN", client.createRoom({ name: "Too early" }));
    const pattern = /https?:\/\/\S+\/_heichat\/consent\?\S+/;
    assert.match(error.data.consent_uri, pattern);
    await client.joinRoom(room.roomId);
    const notice = await until("the message with the link", () =>
        events(client, room.roomId).find((event) => event.getType() === "m.room.message"),
    );
    assert.equal(notice.getSender(), administrator);
    await until("the tag of server notices", () => "m.server_notice" in client.getRoom(room.roomId).tags);
    await refused("M_CONSENT_NOT_GIVEN", client.sendTextMessage(room.roomId, "Hallo?"));
    assert.match(await agreeInBrowser(notice.getContent().body.match(pattern)[0]), /zugestimmt/);
    await refused("M_FORBIDDEN", client.sendTextMessage(room.roomId, "Hallo?"));
}
