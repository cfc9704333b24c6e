// Three devices write encrypted messages all the time while the server is killed again and again (kill -9).
//
// The sessions are short, so keys are given from device to device all the time too: a lost, doubled or reordered
// to-device message shows as a message that cannot be read.

import assert from "node:assert/strict";
import { SyncState } from "matrix-js-sdk";
import { journey, restartServer, say, step, until } from "./kit.mjs";
import { devicesOf, encryptedRoom, logInEncrypted, readAll, reads, ready, sendSurely } from "./cryptokit.mjs";

const MESSAGES = 1000;
const KILLS = 5;
const ROTATION = 10;
const PATIENCE = 60;

/**
 * Each device writes in turn, so that there is one Olm session between each two of them. Where two begin at the same time, the
 * SDK sends its key a second time, from a later message on; if both come with one sync, it forgets the first, better one.
 */
async function greet(clients, roomId, sent) {
    for (const client of clients) {
        const body = `Nachricht ${sent.length}`;
        const id = await say(client, roomId, body);
        for (const other of clients) await reads(other, roomId, id, body);
        sent.push({ body, id, retried: false });
    }
}

async function writeAll(clients, roomId, sent) {
    let next = sent.length;
    const writer = async (client) => {
        while (next < MESSAGES) {
            const body = `Nachricht ${next++}`;
            sent.push({ body, ...(await sendSurely(client, roomId, body)) });
        }
    };
    await Promise.all(clients.map(writer));
}

async function killWhileWriting(clients, sent) {
    for (let kill = 1; kill <= KILLS; kill++) {
        const mark = (MESSAGES * kill) / (KILLS + 1);
        await until(`${Math.floor(mark)} messages are sent`, () => sent.length >= mark, PATIENCE);
        assert.ok(sent.length < MESSAGES, "there is still something to send when the server is killed");
        await restartServer("kill");
        await syncAgain(clients);
    }
}

function syncAgain(clients) {
    return until("the syncs go on", () => {
        for (const client of clients) client.retryImmediately();
        return clients.every((client) => client.getSyncState() === SyncState.Syncing);
    });
}

await journey(async (url) => {
    const laptop = await logInEncrypted(url, "alice");
    const phone = await logInEncrypted(url, "alice");
    const bob = await logInEncrypted(url, "bob");
    const clients = [laptop, phone, bob];
    const roomId = await encryptedRoom(laptop, [bob], "Wichtig", ROTATION);
    await ready(phone, roomId, 2);
    for (const client of clients) {
        await until("the devices know each other", async () => {
            const known = await Promise.all([laptop, bob].map((one) => devicesOf(client, one.getUserId())));
            return known.flat().length === clients.length;
        });
    }
    step(`three devices write ${MESSAGES} messages, and the server is killed ${KILLS} times`);
    const sent = [];
    await greet(clients, roomId, sent);
    await Promise.all([writeAll(clients, roomId, sent), killWhileWriting(clients, sent)]);
    step(`${sent.filter((one) => one.retried).length} of them had to be sent again`);
    assert.equal(new Set(sent.map((one) => one.id)).size, MESSAGES);
    for (const client of clients) {
        const found = await readAll(client, roomId);
        assert.equal(found.length, MESSAGES, "no message is missing, none is there twice");
        assert.deepEqual(new Map(found.sort()), new Map(sent.map((one) => [one.id, one.body]).sort()));
    }
});
