// The list of conversations: invitations with their two answers, rooms with what is unread.

import { h, reconcile } from "./dom.js";
import { t, shortTime, currentLanguage } from "./text.js";
import { personName, roomName, signOf } from "./names.js";
import { face } from "./face.js";
import { fold } from "./timeline.js";
import { preview } from "./messages.js";
import { chooseDirect, chooseRoom } from "./dialogs.js";

export class RoomList {
  constructor(app) {
    this.app = app;
    this.rooms = h("ul", { class: "rooms" });
    this.empty = h("p", { class: "empty" });
    this.heading = h("h2", { class: "spoken", tabindex: "-1" }, t("rooms"));
    this.element = h(
      "nav",
      { class: "list", "aria-label": t("rooms") },
      this.heading,
      h(
        "div",
        { class: "start" },
        h("button", { type: "button", onclick: () => chooseDirect(app) }, t("newDirect")),
        h("button", { type: "button", class: "quiet", onclick: () => chooseRoom(app) }, t("newRoom")),
      ),
      this.empty,
      this.rooms,
      h("p", { class: "honest" }, t("honest")),
    );
  }

  focus() {
    this.heading.focus();
  }

  update() {
    const { store, ready } = this.app;
    const rooms = store.sorted();
    this.empty.textContent = !ready ? t("loading") : rooms.length === 0 ? t("noRooms") : "";
    reconcile(
      this.rooms,
      rooms.map((room) => (room.invited ? this.#invitation(room) : this.#room(room))),
    );
  }

  #invitation(room) {
    const { app } = this;
    const name = roomName(room, app.me);
    const button = (action, label, text, act) =>
      h(
        "button",
        {
          type: "button",
          class: action === "accept" ? "" : "quiet",
          "data-action": action,
          "aria-label": label,
          onclick: act,
        },
        text,
      );
    const make = () =>
      h(
        "li",
        { class: "invitation" },
        face(name, signOf(room, app.me)),
        h(
          "div",
          { class: "what" },
          h("strong", {}, name),
          h("small", {}, room.inviter ? t("invitedBy", personName(room, room.inviter)) : ""),
        ),
        h(
          "div",
          { class: "answers" },
          button("accept", t("acceptRoom", name), t("accept"), () => app.attempt(() => app.accept(room))),
          button("decline", t("declineRoom", name), t("decline"), () => app.attempt(() => app.api.leave(room.id))),
        ),
      );
    return { key: room.id, version: JSON.stringify([currentLanguage(), "invite", name]), make };
  }

  #room(room) {
    const { app } = this;
    const name = roomName(room, app.me);
    const open = app.openRoom === room.id;
    const unread = open && document.visibilityState === "visible" ? 0 : room.unread;
    const last = fold(room.events).findLast((item) => item.event.state_key === undefined);
    const line = last ? preview(room, last, app.me) : room.isNotice ? t("noticeRoom") : "";
    const time = room.latest ? shortTime(room.latest) : "";
    const make = () =>
      h(
        "li",
        {},
        h(
          "button",
          {
            type: "button",
            class: "entry",
            "data-action": "open",
            "aria-current": open ? "true" : null,
            onclick: () => app.open(room.id),
          },
          face(name, signOf(room, app.me)),
          h("span", { class: "what" }, h("strong", {}, name), h("small", {}, line)),
          h(
            "span",
            { class: "side" },
            h("small", {}, time),
            unread
              ? h(
                  "span",
                  { class: room.highlighted ? "count loud" : "count" },
                  String(unread),
                  h("span", { class: "spoken" }, ` ${t("unread", "")}`),
                )
              : null,
          ),
        ),
      );
    return {
      key: room.id,
      version: JSON.stringify([currentLanguage(), open, name, line, unread, room.highlighted, time]),
      make,
    };
  }
}
