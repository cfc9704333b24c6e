// Keys that a device asks its sister for, and keys in safekeeping: a dehydrated device (MSC3814) receives them while a person
// is logged in nowhere.

import assert from "node:assert/strict";
import { CryptoEvent } from "matrix-js-sdk/lib/crypto-api/index.js";
import { events, journey, say, step, until } from "./kit.mjs";
import {
    compareEmojis,
    devicesOf,
    encryptedRoom,
    logInEncrypted,
    reading,
    reads,
    ready,
    Recovery,
    setUp,
    signUp,
    trusts,
} from "./cryptokit.mjs";

const ROTATION = 3;

async function sayAll(client, roomId, texts) {
    const said = [];
    for (const text of texts) said.push([await say(client, roomId, text), text]);
    return said;
}

async function readsAll(client, roomId, said) {
    for (const [id, text] of said) await reads(client, roomId, id, text);
}

async function askForKeys(url, alice, bob, roomId, said) {
    step("a tablet of bob, who has no backup, asks his laptop for the keys of the history");
    const tablet = await logInEncrypted(url, "bob");
    await ready(tablet, roomId, 2);
    await until("the laptop knows the tablet", async () =>
        (await devicesOf(bob, bob.getUserId())).includes(tablet.getDeviceId()),
    );
    const request = await tablet.getCrypto().requestOwnUserVerification();
    await compareEmojis(request, () =>
        bob.getCrypto().getVerificationRequestsToDeviceInProgress(bob.getUserId())[0],
    );
    await until("the laptop trusts the tablet", () => trusts(bob, bob.getUserId(), tablet.getDeviceId()));
    await tablet.scrollback(tablet.getRoom(roomId), 50);
    for (const [id] of said) assert.ok((await reading(tablet, roomId, id)).problem, "no key came on its own");
    tablet.getCrypto().olmMachine.roomKeyRequestsEnabled = true; // by itself the SDK looks into a backup only
    for (const [id, text] of said) {
        const event = events(tablet, roomId).find((one) => one.getId() === id);
        if (event.isDecryptionFailure()) await event.attemptDecryption(tablet.getCrypto(), { isRetry: true });
        await say(alice, roomId, "Weiter"); // something to sync: after a sync the SDK sends its questions
        await reads(tablet, roomId, id, text);
    }
}

async function whileAway(url, alice, bob, roomId, recovery) {
    step("alice leaves a dehydrated device and logs out everywhere; bob writes to her");
    const aliceId = alice.getUserId();
    assert.ok(await alice.getCrypto().isDehydrationSupported());
    await alice.getCrypto().startDehydration();
    const [dry] = await until("bob knows the device in safekeeping", async () => {
        const devices = (await devicesOf(bob, aliceId)).filter((id) => id !== alice.getDeviceId());
        return devices.length === 1 && devices;
    });
    await alice.logout(true);
    await until("bob sees that alice is away", async () => (await devicesOf(bob, aliceId)).join() === dry);
    const said = await sayAll(bob, roomId, ["Bist du da?", "Hallo?", "Na gut,", "dann eben morgen.", "Bis dann!"]);
    step("alice logs in on a new device, which takes the keys from the one in safekeeping");
    const again = await logInEncrypted(url, "alice", recovery);
    await ready(again, roomId, 2);
    for (const [id] of said) await until("nothing can be read", async () => (await reading(again, roomId, id)).problem);
    let keys = 0;
    again.on(CryptoEvent.RehydrationProgress, (count) => (keys = count));
    await until("the own public keys are there", () => again.getCrypto().userHasCrossSigningKeys(aliceId, true));
    await again.getCrypto().bootstrapCrossSigning({});
    await again.getCrypto().startDehydration();
    assert.ok(keys > 0);
    await readsAll(again, roomId, said);
    await until("another device is in safekeeping now", async () => {
        const devices = await devicesOf(bob, aliceId);
        return devices.length === 2 && devices.includes(again.getDeviceId()) && !devices.includes(dry);
    });
    return again;
}

await journey(async (url) => {
    const recovery = new Recovery();
    const alice = await logInEncrypted(url, "alice", recovery);
    const bob = await logInEncrypted(url, "bob");
    await setUp(alice, recovery);
    await signUp(bob);
    const roomId = await encryptedRoom(alice, [bob], "Unterwegs", ROTATION);
    const said = await sayAll(alice, roomId, Array.from({ length: 10 }, (_, n) => `Notiz ${n}`));
    await readsAll(bob, roomId, said);
    await askForKeys(url, alice, bob, roomId, said);
    const again = await whileAway(url, alice, bob, roomId, recovery);
    await reads(bob, roomId, await say(again, roomId, "Da bin ich"), "Da bin ich");
});
