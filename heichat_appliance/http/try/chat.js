// After the login: the bar, the list of rooms, and the open room beside it (on a phone: in its place).

import { h, link } from "./dom.js";
import { t } from "./text.js";
import { roomName, uniId } from "./names.js";
import { ask } from "./dialogs.js";
import { face } from "./face.js";
import { brand, languages } from "./bar.js";
import { RoomList } from "./roomlist.js";
import { RoomView } from "./room.js";

export class ChatPage {
  constructor(app) {
    this.app = app;
    this.list = new RoomList(app);
    this.room = null; // the RoomView of the open room
    this.offline = h("p", { class: "offline", role: "status" });
    this.pane = h("div", { class: "pane" });
    this.element = h(
      "div",
      { class: "chat" },
      this.#bar(),
      this.offline,
      h("main", { class: "panes" }, this.list.element, this.pane),
    );
  }

  #bar() {
    const { app } = this;
    const name = app.about.people.find((person) => person.uni_id === uniId(app.me))?.name ?? uniId(app.me);
    return h(
      "header",
      { class: "bar" },
      h("h1", { class: "brand" }, brand(app), " ", h("small", {}, t("tryOut"))),
      h("span", { class: "me", title: t("signedInAs", name) }, face(name, app.me), h("span", { class: "name" }, name)),
      languages(app),
      h("button", { class: "quiet", type: "button", onclick: () => app.logout() }, t("signOut")),
    );
  }

  close() {
    this.room?.close();
  }

  update() {
    const text = this.app.online ? "" : t("offline");
    if (this.offline.textContent !== text) this.offline.textContent = text;
    this.list.update();
    this.#choose();
    this.room?.update();
  }

  /** Show the room that the address names, or the welcome. */
  #choose() {
    const id = this.app.openRoom;
    const room = this.app.store.rooms.get(id);
    if (!room && id && this.shown === id) return this.#removed();
    const wanted =
      room && !room.invited ? id : id && !this.app.ready ? "loading" : room || id ? `later ${id}` : "welcome";
    this.element.classList.toggle("room-open", Boolean(id));
    if (this.shown === wanted) return;
    this.room?.close();
    this.room = wanted === id && id ? new RoomView(this.app, room) : null;
    this.pane.replaceChildren(this.room ? this.room.element : wanted === "welcome" ? this.#welcome() : this.#waiting());
    if (this.shown !== undefined) this.#focus();
    this.shown = wanted;
  }

  /** The open room is no longer mine: somebody removed me, unless I am just leaving. */
  #removed() {
    const { room, leaving } = this.room;
    this.app.open(null);
    if (!leaving) ask({ text: t("removed", roomName(room, this.app.me)) });
  }

  #focus() {
    if (this.room) this.room.focus();
    else if (this.shown && !this.app.openRoom) this.list.focus();
  }

  #waiting() {
    const back = () => this.app.open(null);
    return h(
      "div",
      { class: "welcome" },
      h("p", {}, t("loading")),
      h("button", { class: "quiet", onclick: back }, t("back")),
    );
  }

  #welcome() {
    const name =
      this.app.about.people.find((person) => person.uni_id === uniId(this.app.me))?.name ?? uniId(this.app.me);
    return h(
      "div",
      { class: "welcome" },
      h("h2", {}, t("welcome", name)),
      h("p", {}, t("welcomeSteps")),
      h(
        "ol",
        {},
        h("li", {}, t("step1")),
        h("li", {}, t("step2")),
        h("li", {}, t("step3"), " ", link("/try/", t("secondTab")), "."),
      ),
      h("p", { class: "honest" }, t("honest")),
    );
  }
}
