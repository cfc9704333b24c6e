// The field to write in: Enter sends, Shift+Enter begins a new line, others see that somebody is typing.

import { h } from "./dom.js";
import { t } from "./text.js";

const TYPING_AGAIN = 10_000; // milliseconds after which the server is told again (it forgets after 20 s)
const LONGEST = 20_000; // characters; an event must stay below 64 KiB

export class Composer {
  constructor(app, room) {
    this.app = app;
    this.room = room;
    this.toldTyping = 0; // when the server was told last; 0: it thinks that nobody types
    this.field = h("textarea", {
      rows: "1",
      maxlength: String(LONGEST),
      placeholder: t("write"),
      "aria-label": t("write"),
      enterkeyhint: "send",
      value: app.drafts.get(room.id) ?? "",
      oninput: () => this.#written(),
      onkeydown: (event) => this.#key(event),
    });
    this.element = h(
      "form",
      { class: "composer", onsubmit: (event) => this.#submit(event) },
      this.field,
      h("button", { type: "submit" }, t("send")),
    );
    this.fit = new ResizeObserver(() => this.#fit());
    this.fit.observe(this.element);
  }

  get usable() {
    return !this.element.hidden;
  }

  allow(allowed) {
    this.element.hidden = !allowed;
  }

  focus() {
    this.field.focus();
  }

  close() {
    this.fit.disconnect();
    this.#tellTyping(false);
  }

  #key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    this.#submit(event);
  }

  #submit(event) {
    event.preventDefault();
    const body = this.field.value.trim();
    if (!body) return;
    this.field.value = "";
    this.#written();
    this.app.outbox.send(this.room.id, { msgtype: "m.text", body });
    this.focus();
  }

  #written() {
    this.app.drafts.set(this.room.id, this.field.value);
    this.#fit();
    this.#tellTyping(this.field.value.trim() !== "");
  }

  #fit() {
    this.field.style.height = "auto";
    this.field.style.height = `${this.field.scrollHeight + 2}px`; // and the border
  }

  #tellTyping(typing) {
    const due = typing ? Date.now() - this.toldTyping > TYPING_AGAIN : this.toldTyping > 0;
    if (!due) return;
    this.toldTyping = typing ? Date.now() : 0;
    this.app.api?.typing(this.room.id, this.app.me, typing).catch(() => {}); // it does not matter much
  }
}
