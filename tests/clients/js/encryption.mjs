// Two people with encryption: cross-signing, secure backup, history on new devices, verification, a device that goes.

import assert from "node:assert/strict";
import { goThroughTerms, journey, say, step, until } from "./kit.mjs";
import {
    backedUp,
    compareEmojis,
    devicesOf,
    encryptedRoom,
    logInEncrypted,
    reading,
    reads,
    ready,
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
        await until("the history can't be read yet", async () =>
            (await reading(phone, roomId, id)).problem?.startsWith("HISTORICAL_MESSAGE"),
        );
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

async function verifyOwnDevice(url, alice, bob, roomId, said) {
    step("a tablet of alice compares emojis with her laptop, and gets the secrets from it");
    const tablet = await logInEncrypted(url, "alice");
    await ready(tablet, roomId, 2);
    await until("bob and the laptop know the tablet", async () => {
        const lists = await Promise.all([alice, bob].map((client) => devicesOf(client, alice.getUserId())));
        return lists.every((list) => list.includes(tablet.getDeviceId()));
    });
    const text = "Für beide Geräte";
    const id = await say(bob, roomId, text);
    for (const client of [alice, tablet]) await reads(client, roomId, id, text);
    const request = await tablet.getCrypto().requestOwnUserVerification();
    await compareEmojis(request, () =>
        alice.getCrypto().getVerificationRequestsToDeviceInProgress(alice.getUserId())[0],
    );
    await until("the laptop trusts the tablet", () => trusts(alice, alice.getUserId(), tablet.getDeviceId()));
    await until("the tablet trusts the laptop", () => trusts(tablet, alice.getUserId(), alice.getDeviceId()));
    await until("the tablet got the secrets", () => tablet.getCrypto().isCrossSigningReady());
    await until("the tablet got the backup key", () => tablet.getCrypto().getSessionBackupPrivateKey());
    await tablet.scrollback(tablet.getRoom(roomId), 50);
    for (const [one, words] of said) await reads(tablet, roomId, one, words); // fetches each session from the backup
    return tablet;
}

async function verifyEachOther(alice, bob, tablet, roomId) {
    step("alice and bob compare emojis in their room");
    const [aliceId, bobId] = [alice.getUserId(), bob.getUserId()];
    assert.equal(await trusts(alice, bobId, bob.getDeviceId()), false);
    const request = await alice.getCrypto().requestVerificationDM(bobId, roomId);
    await compareEmojis(request, () => bob.getCrypto().findVerificationRequestDMInProgress(roomId, aliceId));
    for (const client of [alice, tablet]) {
        await until("alice trusts bob's device", () => trusts(client, bobId, bob.getDeviceId()));
    }
    for (const client of [alice, tablet]) {
        await until("bob trusts alice's devices", () => trusts(bob, aliceId, client.getDeviceId()));
    }
}

async function resetIdentity(alice, bob) {
    step("bob resets his identity, for which he must give his password, and alice is warned");
    const bobId = bob.getUserId();
    const before = await bob.getCrypto().getCrossSigningKeyId();
    let asked = 0;
    await bob.getCrypto().bootstrapCrossSigning({
        setupNewCrossSigning: true,
        authUploadDeviceSigningKeys: async (upload) => {
            asked++;
            const refusal = await upload(null).then(() => assert.fail("no password was asked for"), (error) => error);
            assert.equal(refusal.httpStatus, 401);
            assert.ok(refusal.data.flows.some(({ stages }) => stages.includes("m.login.password")));
            await upload({
                type: "m.login.password",
                session: refusal.data.session,
                identifier: { type: "m.id.user", user: bobId },
                password: "bob-demo",
            });
        },
    });
    assert.equal(asked, 1);
    assert.notEqual(await bob.getCrypto().getCrossSigningKeyId(), before);
    await until("alice is warned of bob's new identity", async () => {
        const status = await alice.getCrypto().getUserVerificationStatus(bobId);
        return !status.isVerified() && status.wasCrossSigningVerified() && status.needsUserApproval;
    });
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
    const tablet = await verifyOwnDevice(url, alice, bob, roomId, said);
    await verifyEachOther(alice, bob, tablet, roomId);
    await resetIdentity(alice, bob);
    for (const client of [alice, bob, tablet]) await client.logout(true);
});
