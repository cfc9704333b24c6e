// Bob, who joins the first room that he is invited to, and answers every message there with an echo, until "Ende" comes.
// The room is encrypted, and the other side is another implementation (nio/encryption.py).

import { events, journey, say, until } from "./kit.mjs";
import { logInEncrypted, readingOf } from "./cryptokit.mjs";

/** The messages of others in a room that have not been answered yet, as texts, all readable. */
async function unanswered(client, roomId, answered) {
    const texts = [];
    for (const event of events(client, roomId)) {
        const wire = event.getWireType();
        if (event.getSender() === client.getUserId() || answered.has(event.getId())) continue;
        if (wire !== "m.room.encrypted" && wire !== "m.room.message") continue;
        const { text } = await readingOf(client, event);
        if (text === undefined) return texts; // its key is still on the way
        answered.add(event.getId());
        texts.push(text);
    }
    return texts;
}

await journey(async (url) => {
    const bob = await logInEncrypted(url, "bob");
    const room = await until("an invitation", () => bob.getRooms().find((one) => one.getMyMembership() === "invite"));
    await bob.joinRoom(room.roomId);
    const answered = new Set();
    for (let ended = false; !ended; ) {
        const texts = await until("a message", async () => {
            const found = await unanswered(bob, room.roomId, answered);
            return found.length > 0 && found;
        });
        for (const text of texts) await say(bob, room.roomId, `Echo: ${text}`);
        ended = texts.includes("Ende");
    }
});
