// What people do with end-to-end encryption: set it up, restore it, compare emojis, and read what others wrote.

import assert from "node:assert/strict";
import { Direction, EventType } from "matrix-js-sdk";
import { VerificationPhase } from "matrix-js-sdk/lib/crypto-api/index.js";
import { events, logIn, step, until } from "./kit.mjs";

const SAS = "m.sas.v1";
const PATIENCE = 60;

/** Somebody's recovery key, once there is one; given to every device that may use it. */
export class Recovery {
    key = null;

    get callbacks() {
        return {
            getSecretStorageKey: async ({ keys }) => (this.key ? [Object.keys(keys)[0], this.key] : null),
        };
    }
}

/** Log in with encryption; with `recovery` the device can open the secret storage. */
export function logInEncrypted(url, uniId, recovery) {
    return logIn(url, uniId, { crypto: true, cryptoCallbacks: recovery?.callbacks });
}

/** Make cross-signing keys. */
export async function signUp(client) {
    let asked = 0;
    await client.getCrypto().bootstrapCrossSigning({
        authUploadDeviceSigningKeys: async (upload) => {
            asked++;
            await upload(null); // the first upload needs no password
        },
    });
    assert.equal(asked, 1);
}

/** Make cross-signing keys, secret storage and the key backup, as Element does after the first login. */
export async function setUp(client, recovery) {
    step(`${client.getUserId()} sets up cross-signing, secret storage and the key backup`);
    const crypto = client.getCrypto();
    await signUp(client);
    const made = await crypto.createRecoveryKeyFromPassphrase();
    recovery.key = made.privateKey;
    await crypto.bootstrapSecretStorage({
        createSecretStorageKey: async () => made,
        setupNewKeyBackup: true,
        setupNewSecretStorage: true,
    });
    await until("cross-signing is ready", () => crypto.isCrossSigningReady());
    await until("secret storage is ready", () => crypto.isSecretStorageReady());
    await until("the backup is on", () => crypto.getActiveSessionBackupVersion());
    await until("the own device is verified", () => trusts(client, client.getUserId(), client.getDeviceId()));
}

/** Whether a client believes a device to be its owner's, by cross-signing. */
export async function trusts(client, userId, deviceId) {
    const status = await client.getCrypto().getDeviceVerificationStatus(userId, deviceId);
    return status?.crossSigningVerified ?? false;
}

/** The IDs of the devices that a client knows somebody to have, from what sync told it. */
export async function devicesOf(client, userId) {
    const known = await client.getCrypto().getUserDeviceInfo([userId]);
    return [...(known.get(userId)?.keys() ?? [])].sort();
}

/** Create an encrypted room with others, who join; the room ID. `rotation`: messages until a new session begins. */
export async function encryptedRoom(owner, others, name, rotation = 100) {
    const content = { algorithm: "m.megolm.v1.aes-sha2", rotation_period_msgs: rotation };
    const { room_id: roomId } = await owner.createRoom({
        name,
        invite: others.map((client) => client.getUserId()),
        initial_state: [{ type: EventType.RoomEncryption, state_key: "", content }],
    });
    for (const client of others) {
        await until(`${client.getUserId()} is invited`, () => client.getRoom(roomId));
        await client.joinRoom(roomId);
    }
    for (const client of [owner, ...others]) await ready(client, roomId, others.length + 1);
    return roomId;
}

/** Wait until a client knows a room to be encrypted and all of its members. */
export async function ready(client, roomId, members) {
    await until(`${client.getUserId()} knows the room and its ${members} members`, async () => {
        const room = client.getRoom(roomId);
        if (room?.getMyMembership() !== "join") return false;
        if (!(await client.getCrypto().isEncryptionEnabledInRoom(roomId))) return false;
        return room.getJoinedMemberCount() === members;
    });
}

/** The text of an event if the client has it and can read it, else what stands in the way: {text} or {problem}. */
export async function reading(client, roomId, eventId) {
    const event = events(client, roomId).find((one) => one.getId() === eventId);
    return event ? readingOf(client, event) : { problem: "not there" };
}

/** The same of an event that is there. */
export async function readingOf(client, event) {
    await client.decryptEventIfNeeded(event);
    if (event.isDecryptionFailure()) return { problem: event.decryptionFailureReason };
    assert.ok(event.isEncrypted(), `${event.getId()} came in clear text`);
    return { text: event.getContent().body };
}

/** Wait until a client can read a message, which must have this text. */
export async function reads(client, roomId, eventId, text) {
    const who = `${client.getUserId()} ${client.getDeviceId()}`;
    let last;
    const found = await until(`${who} reads "${text}"`, async () => {
        last = await reading(client, roomId, eventId);
        return last.problem ? null : last;
    }).catch((error) => assert.fail(`${error.message}: ${last.problem}`));
    assert.equal(found.text, text);
}

/** Wait until all sessions that a client has are in the backup; how many. */
export async function backedUp(client) {
    const sessions = (await client.getCrypto().exportRoomKeys()).length;
    assert.ok(sessions > 0);
    await until(`${sessions} sessions are in the backup`, async () => {
        const info = await client.http.authedRequest("GET", "/room_keys/version"); // the SDK repeats its first answer
        return info.count === sessions;
    });
    return sessions;
}

/** Send a message, again and again until it is sent, as Element does with "Retry"; the event ID. */
export async function sendSurely(client, roomId, body) {
    const txnId = `${client.getDeviceId()} ${body}`;
    const room = client.getRoom(roomId);
    const first = await client
        .sendEvent(roomId, "m.room.message", { msgtype: "m.text", body }, txnId)
        .catch(() => null);
    if (first) return { id: first.event_id, retried: false };
    const event = room.getEventForTxnId(txnId);
    const answer = await until(`${body} is sent`, () => client.resendEvent(event, room).catch(() => null), PATIENCE);
    return { id: answer.event_id, retried: true };
}

/**
 * All messages of a room, newest first, as a device reads them. They are asked for anew: the SDK leaves holes in its own
 * timeline when sync tells of a gap and one of its own messages comes after it.
 */
export async function readAll(client, roomId) {
    const messages = [];
    for (let from = null; from !== undefined; ) {
        const page = await client.createMessagesRequest(roomId, from, 100, Direction.Backward);
        messages.push(...page.chunk.filter((event) => event.type === "m.room.encrypted").map(client.getEventMapper()));
        from = page.end;
    }
    let unread = [];
    await until(`${client.getUserId()} ${client.getDeviceId()} reads everything`, async () => {
        unread = (await Promise.all(messages.map((event) => readingOf(client, event)))).filter((one) => one.problem);
        return unread.length === 0;
    }).catch((error) => assert.fail(`${error.message}: ${unread.length} of ${messages.length}: ${unread[0]?.problem}`));
    return messages.map((event) => [event.getId(), event.getContent().body]);
}

/** Go through a verification by emojis; `request` is the asking side's, `find` gives the other side's. */
export async function compareEmojis(request, find) {
    const other = await until("the verification request arrives", find);
    await other.accept();
    await until("both are ready", () => request.phase === VerificationPhase.Ready);
    const verifiers = [await request.startVerification(SAS)];
    verifiers.push(await until("the other side starts", () => other.verifier));
    const ends = verifiers.map((verifier) => verifier.verify());
    const shown = [];
    for (const verifier of verifiers) shown.push(await until("emojis", () => verifier.getShowSasCallbacks()));
    assert.equal(shown[0].sas.emoji.length, 7);
    assert.deepEqual(shown[0].sas.emoji, shown[1].sas.emoji);
    for (const one of shown) await one.confirm();
    await Promise.all(ends);
    for (const one of [request, other]) await until("it is done", () => one.phase === VerificationPhase.Done);
}
