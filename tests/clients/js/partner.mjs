// Bob, who sets encryption up, joins the first room that he is invited to, reads what is written there, and does what he is
// asked for: "!prüfe USER DEVICE" compares numbers with a device, "!sicherung" tells the key of his backup, "!ende" ends.
// Who asks is another implementation (nio/verification.py).

import assert from "node:assert/strict";
import { VerificationPhase } from "matrix-js-sdk/lib/crypto-api/index.js";
import { events, journey, say, until } from "./kit.mjs";
import { backedUp, devicesOf, logInEncrypted, readingOf, Recovery, setUp } from "./cryptokit.mjs";

async function compare(bob, roomId, userId, deviceId) {
    await until("the device is known", async () => (await devicesOf(bob, userId)).includes(deviceId));
    const request = await bob.getCrypto().requestDeviceVerification(userId, deviceId);
    await until("the other side is ready", () => request.phase === VerificationPhase.Ready);
    const verifier = await request.startVerification("m.sas.v1");
    const end = verifier.verify();
    const { sas, confirm } = await until("numbers", () => verifier.getShowSasCallbacks());
    await say(bob, roomId, `Zahlen: ${sas.decimal.join(" ")}`);
    await confirm();
    await end;
    await until("both are done", () => request.phase === VerificationPhase.Done);
    const status = await bob.getCrypto().getDeviceVerificationStatus(userId, deviceId);
    assert.ok(status.isVerified());
    await say(bob, roomId, `Geprüft: ${deviceId}`);
}

async function tellBackupKey(bob, roomId) {
    await backedUp(bob);
    const key = await bob.getCrypto().getSessionBackupPrivateKey();
    await say(bob, roomId, `Schlüssel: ${Buffer.from(key).toString("base64")}`);
}

/** What somebody else, or another device of Bob's, writes next; it must be readable. */
async function next(bob, roomId, seen) {
    const event = await until("a message", () =>
        events(bob, roomId).find(
            (one) => one.getWireType() === "m.room.encrypted" && !seen.has(one.getId()) && one.getId().startsWith("$"),
        ),
    );
    seen.add(event.getId());
    let read;
    await until("it can be read", async () => "text" in (read = await readingOf(bob, event)));
    return read.text;
}

await journey(async (url) => {
    const recovery = new Recovery();
    const bob = await logInEncrypted(url, "bob", recovery);
    await setUp(bob, recovery);
    const room = await until("an invitation", () => bob.getRooms().find((one) => one.getMyMembership() === "invite"));
    await bob.joinRoom(room.roomId);
    const seen = new Set();
    for (;;) {
        const [word, ...rest] = (await next(bob, room.roomId, seen)).split(" ");
        if (word === "!ende") break;
        if (word === "!prüfe") await compare(bob, room.roomId, ...rest);
        if (word === "!sicherung") await tellBackupKey(bob, room.roomId);
    }
});
