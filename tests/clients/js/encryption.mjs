// Two people with encryption: cross-signing, secure backup, history on new devices, verification, devices that come and go.

import assert from "node:assert/strict";
import { goThroughTerms, journey, say, step, until } from "./kit.mjs";
import {
    devicesOf,
    encryptedRoom,
    logInEncrypted,
    reading,
    reads,
    Recovery,
    setUp,
    trusts,
} from "./cryptokit.mjs";

async function chat(alice, bob, roomId) {
    step("they write to each other, encrypted");
    const said = [];
    for (let n = 0; n < 12; n++) {
        const [from, to] = n % 2 ? [bob, alice] : [alice, bob];
        const text = `Geheimnis ${n} 🔑`;
        const id = await say(from, roomId, text);
        await reads(to, roomId, id, text);
        said.push([id, text]);
    }
    return said;
}

async function backedUp(client) {
    const sessions = (await client.getCrypto().exportRoomKeys()).length;
    assert.ok(sessions > 0);
    await until(`${sessions} sessions are in the backup`, async () => {
        const info = await client.http.authedRequest("GET", "/room_keys/version"); // the SDK gives its first answer again
        return info.count === sessions;
    });
    return sessions;
}

async function restoreWithRecoveryKey(url, alice, bob, roomId, recovery, said) {
    step("a phone of alice restores from the backup with the recovery key, and reads the history");
    const sessions = await backedUp(alice);
    const phone = await logInEncrypted(url, "alice", recovery);
    await until("bob learns of the phone", async () =>
        (await devicesOf(bob, alice.getUserId())).includes(phone.getDeviceId()),
    );
    const crypto = phone.getCrypto();
    assert.equal(await trusts(phone, alice.getUserId(), alice.getDeviceId()), false);
    for (const [id] of said.slice(-3)) {
        await until("the history can't be read yet", () => reading(phone, roomId, id).problem?.startsWith("HIST"));
    }
    await crypto.bootstrapCrossSigning({}); // takes the keys out of the secret storage
    await crypto.loadSessionBackupPrivateKeyFromSecretStorage();
    const restored = await crypto.restoreKeyBackup();
    assert.deepEqual([restored.imported, restored.total], [sessions, sessions]);
    await phone.scrollback(phone.getRoom(roomId), 50);
    for (const [id, text] of said) await reads(phone, roomId, id, text);
    for (const client of [alice, bob]) {
        await until("the others trust the phone", async () => {
            const status = await client.getCrypto().getDeviceVerificationStatus(phone.getUserId(), phone.getDeviceId());
            return status?.signedByOwner;
        });
    }
    return phone;
}

async function leaveDevice(alice, bob, phone, roomId) {
    step("the phone logs out, and nobody writes to it any more");
    const [aliceId, gone] = [alice.getUserId(), phone.getDeviceId()];
    await phone.logout(true);
    for (const client of [alice, bob]) {
        await until(`${client.getUserId()} sees that the phone is gone`, async () =>
            !(await devicesOf(client, aliceId)).includes(gone),
        );
    }
    assert.deepEqual(await devicesOf(bob, aliceId), [alice.getDeviceId()]);
    await reads(bob, roomId, await say(alice, roomId, "Ohne Telefon"), "Ohne Telefon");
}

await journey(async (url) => {
    const [aliceKey, bobKey] = [new Recovery(), new Recovery()];
    const alice = await logInEncrypted(url, "alice", aliceKey);
    const bob = await logInEncrypted(url, "bob", bobKey);
    for (const client of [alice, bob]) await goThroughTerms(client);
    await setUp(alice, aliceKey);
    await setUp(bob, bobKey);
    const roomId = await encryptedRoom(alice, [bob], "Prüfungsausschuss", 2);
    const said = await chat(alice, bob, roomId);
    const phone = await restoreWithRecoveryKey(url, alice, bob, roomId, aliceKey, said);
    await leaveDevice(alice, bob, phone, roomId);
    for (const client of [alice, bob]) await client.logout(true);
});
