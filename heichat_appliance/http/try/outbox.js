// Messages on their way: shown at once, sent in order, kept until the server has them.

import { MatrixError, Unreachable } from "./api.js";

export class Outbox {
  /** `changed()` is called when something on the way changes; `needsConsent(error)` when the terms were not agreed to. */
  constructor(api, changed, needsConsent) {
    this.api = api;
    this.changed = changed;
    this.needsConsent = needsConsent;
    this.items = []; // {transaction, roomId, content, time, status: "sending" | "waiting" | "failed" | "sent", error}
    this.sending = new Set(); // rooms in which a message is on its way
  }

  of(room) {
    return this.items.filter(
      (item) => item.roomId === room.id && !room.events.some((e) => e.event_id === item.eventId),
    );
  }

  send(roomId, content) {
    // The same transaction is used for every attempt, so that the server takes the message once.
    this.items.push({
      transaction: crypto.randomUUID(),
      roomId,
      content,
      time: Date.now(),
      status: "sending",
      error: null,
    });
    this.#next(roomId);
  }

  /** Try again what waits (after the server came back), and what failed if `also` says so. */
  resume(also = () => false) {
    const again = this.items.filter((item) => item.status === "waiting" || (item.status === "failed" && also(item)));
    for (const item of again) item.status = "sending";
    for (const roomId of new Set(again.map((item) => item.roomId))) this.#next(roomId);
  }

  discard(item) {
    this.items = this.items.filter((other) => other !== item);
    this.changed();
  }

  /** An event came by sync: if it is one of ours, it is not on its way any more. */
  arrived(event) {
    const transaction = event.unsigned?.transaction_id;
    this.items = this.items.filter((item) => item.transaction !== transaction && item.eventId !== event.event_id);
  }

  async #next(roomId) {
    this.changed();
    if (this.sending.has(roomId)) return;
    this.sending.add(roomId);
    for (let item; (item = this.items.find((one) => one.roomId === roomId && one.status === "sending"));) {
      await this.#attempt(item);
      this.changed();
    }
    this.sending.delete(roomId);
  }

  async #attempt(item) {
    try {
      const answer = await this.api.send(item.roomId, "m.room.message", item.transaction, item.content);
      item.eventId = answer.event_id;
      item.status = "sent";
    } catch (error) {
      item.error = error;
      item.status = error instanceof Unreachable ? "waiting" : "failed";
      if (item.status === "waiting") this.#hold(item.roomId);
      if (error instanceof MatrixError && error.consentUri) this.needsConsent(error);
    }
  }

  /** What comes after a waiting message waits too, so that the order stays. */
  #hold(roomId) {
    for (const item of this.items) if (item.roomId === roomId && item.status === "sending") item.status = "waiting";
  }
}
