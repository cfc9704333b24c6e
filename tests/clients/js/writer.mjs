// Bob, who writes in the first room that he is invited to while the server is killed again and again, and in the end reads
// what everybody wrote there. The others are another implementation (nio/encryption_kill.py), which says when and how much:
// the messages of NAME are "NAME 0", "NAME 1" and so on.

import assert from "node:assert/strict";
import { events, journey, say, step, until } from "./kit.mjs";
import { devicesOf, logInEncrypted, readAll, readingOf, ready, sendSurely } from "./cryptokit.mjs";

const PATIENCE = 60;

/** What alice tells in the room, under a key: "phone" when her second device has greeted, "write" how many messages Bob is to
 *  write, "numbers" how many each has written. */
async function told(bob, roomId, key) {
    return until(`alice says ${key}`, async () => {
        bob.retryImmediately();
        for (const event of events(bob, roomId).filter((one) => one.getWireType() === "m.room.encrypted")) {
            const { text } = await readingOf(bob, event);
            const found = text?.startsWith("{") && JSON.parse(text);
            if (found?.[key]) return found[key];
        }
        return null;
    }, PATIENCE);
}

await journey(async (url) => {
    const bob = await logInEncrypted(url, "bob");
    const room = await until("an invitation", () => bob.getRooms().find((one) => one.getMyMembership() === "invite"));
    await bob.joinRoom(room.roomId);
    await ready(bob, room.roomId, 2);
    await until("both devices of alice are known", async () => {
        return (await devicesOf(bob, bob.getUserId().replace("@bob:", "@alice:"))).length === 2;
    });
    await told(bob, room.roomId, "phone");
    await say(bob, room.roomId, '{"bob": true}');
    const mine = await told(bob, room.roomId, "write");
    step(`bob writes ${mine} messages`);
    for (let n = 0; n < mine; n++) {
        bob.retryImmediately();
        await sendSurely(bob, room.roomId, `bob ${n}`);
    }
    const numbers = await told(bob, room.roomId, "numbers");
    const expected = Object.entries(numbers).flatMap(([name, number]) =>
        Array.from({ length: number }, (_, n) => `${name} ${n}`),
    );
    const found = (await readAll(bob, room.roomId)).map(([, text]) => text).filter((text) => !text.startsWith("{"));
    assert.deepEqual(found.sort(), expected.sort(), "every message is there once");
});
