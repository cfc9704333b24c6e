// The open room: its name, the conversation, who is typing, and the field to write in.

import { h, reconcile, say } from "./dom.js";
import { t } from "./text.js";
import { personName, roomName } from "./names.js";
import { fold } from "./timeline.js";
import { lines, pending } from "./messages.js";
import { Composer } from "./composer.js";
import { ask, inviteTo } from "./dialogs.js";

const NEAR = 60; // pixels from an edge of the conversation that count as being there

export class RoomView {
  constructor(app, room) {
    this.app = app;
    this.room = room;
    this.loading = false;
    this.leaving = false;
    this.toldRead = null; // the event up to which the server knows that I have read
    this.atEnd = true;
    this.title = h("h2", { tabindex: "-1" });
    this.subtitle = h("p", { class: "subtitle" });
    this.olderButton = h("button", { type: "button", class: "quiet older", onclick: () => this.#older() }, t("older"));
    this.start = h("p", { class: "beginning" }, t("beginning"));
    this.list = h("ol", { class: "messages" });
    this.seen = h("p", { class: "seen" });
    this.scroller = h(
      "div",
      {
        class: "timeline",
        tabindex: "0",
        role: "region",
        "aria-label": t("timeline"),
        onscroll: () => this.#scrolled(),
      },
      this.olderButton,
      this.start,
      this.list,
      this.seen,
    );
    this.newest = h(
      "button",
      { type: "button", class: "newest", hidden: true, onclick: () => this.#toEnd() },
      t("toNewest"),
    );
    this.typing = h("p", { class: "typing", "aria-live": "polite" });
    this.hint = h("p", { class: "hint" });
    this.composer = new Composer(app, room);
    this.inviteButton = h(
      "button",
      { type: "button", class: "quiet", onclick: () => inviteTo(app, room) },
      t("invite"),
    );
    this.element = h(
      "section",
      { class: "room", "aria-labelledby": "room-title" },
      this.#head(),
      this.scroller,
      this.newest,
      this.typing,
      this.hint,
      this.composer.element,
    );
    this.resized = new ResizeObserver(() => this.atEnd && this.#toEnd()); // images, the keyboard of a phone
    this.resized.observe(this.scroller);
    this.resized.observe(this.list);
  }

  #head() {
    this.title.id = "room-title";
    const { app, room } = this;
    return h(
      "div",
      { class: "head" },
      h("button", { type: "button", class: "quiet back", "aria-label": t("back"), onclick: () => app.open(null) }, "←"),
      h("div", { class: "names" }, this.title, this.subtitle),
      this.inviteButton,
      h("button", { type: "button", class: "quiet", onclick: () => this.#leave(room) }, t("leave")),
    );
  }

  /** Called when the room is opened by the person. */
  focus() {
    if (this.composer.usable && matchMedia("(min-width: 45rem)").matches) this.composer.focus();
    else this.title.focus();
  }

  close() {
    this.composer.close();
    this.resized.disconnect();
  }

  update() {
    const { app, room } = this;
    this.title.textContent = roomName(room, app.me);
    this.subtitle.textContent = this.#about();
    this.inviteButton.hidden = room.isNotice || !room.may(app.me, "invite");
    this.olderButton.hidden = room.isWhole;
    this.start.hidden = !room.isWhole;
    this.#hint();
    this.#typing();
    reconcile(this.list, [
      ...lines(app, room, fold(room.events)),
      ...app.outbox.of(room).map((item) => pending(app, item)),
    ]);
    this.seen.textContent = this.#seenBy();
    if (this.atEnd) this.#toEnd();
    else this.newest.hidden = !room.unread;
    this.#markRead();
  }

  #about() {
    const { room } = this;
    if (room.isNotice) return t("noticeRoom");
    const count = room.members.filter((event) => event.content.membership === "join").length;
    const topic = room.content("m.room.topic")?.topic;
    return (count === 1 ? t("person") : t("people", count)) + (typeof topic === "string" && topic ? ` · ${topic}` : "");
  }

  #hint() {
    const { app, room } = this;
    const reason = room.isEncrypted
      ? t("encryptedRoom")
      : room.maySend(app.me)
        ? ""
        : t(room.isNotice ? "onlyService" : "mayNotWrite");
    this.hint.textContent = reason;
    this.composer.allow(reason === "");
  }

  #typing() {
    const names = this.room.typing.map((id) => personName(this.room, id));
    const text = names.length === 0 ? "" : names.length > 2 ? t("typingMany") : t(`typing${names.length}`, ...names);
    if (this.typing.textContent !== text) this.typing.textContent = text;
  }

  /** Who has read the last message, if it is mine. */
  #seenBy() {
    const { app, room } = this;
    const own = room.events.findLastIndex((event) => event.type === "m.room.message" && event.sender === app.me);
    if (own < 0 || room.events.slice(own + 1).some((event) => event.type === "m.room.message")) return "";
    const places = new Map(room.events.map((event, index) => [event.event_id, index]));
    const readers = [...room.read].filter(([id, event]) => id !== app.me && places.get(event) >= own);
    return readers.length ? t("readBy", readers.map(([id]) => personName(room, id)).join(", ")) : "";
  }

  #markRead() {
    const last = this.room.events.at(-1)?.event_id;
    if (!this.atEnd || document.visibilityState !== "visible" || !last || last === this.toldRead || !this.app.online)
      return;
    this.toldRead = last;
    this.app.api.markRead(this.room.id, last).catch(() => (this.toldRead = null));
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    this.atEnd = scrollHeight - scrollTop - clientHeight < NEAR;
    if (this.atEnd) {
      this.newest.hidden = true;
      this.#markRead();
    }
    if (scrollTop < NEAR && !this.atEnd) this.#older();
  }

  #toEnd() {
    this.atEnd = true;
    this.newest.hidden = true;
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  /** Fetch a page of history; what is on the screen stays where it is. */
  async #older() {
    const { app, room } = this;
    if (this.loading || room.isWhole) return;
    this.loading = true;
    this.olderButton.textContent = t("loading");
    const from = room.older;
    try {
      const answer = await app.api.messages(room.id, from);
      if (room.older !== from) return; // a gap came in between
      const below = this.scroller.scrollHeight - this.scroller.scrollTop;
      app.store.addOlder(room, answer);
      this.atEnd = false;
      this.update();
      this.scroller.scrollTop = this.scroller.scrollHeight - below;
    } catch (error) {
      say(t("notPossible", error.message));
    } finally {
      this.loading = false;
      this.olderButton.textContent = t("older");
    }
  }

  async #leave(room) {
    const sure = await ask({ text: t("leaveQuestion", roomName(room, this.app.me)), yes: t("leave") });
    if (!sure) return;
    this.leaving = true;
    await this.app.attempt(() => this.app.api.leave(room.id)); // the next sync takes the room away
  }
}
