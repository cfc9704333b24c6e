// The page: who is logged in, which room is open, and what happens when something changes.

import { Api, MatrixError } from "./api.js";
import { Store } from "./state.js";
import { Outbox } from "./outbox.js";
import { Media } from "./media.js";
import { listen } from "./sync.js";
import { h, say } from "./dom.js";
import { t, currentLanguage, setLanguage } from "./text.js";
import { personName, roomName } from "./names.js";
import { ask, askConsent } from "./dialogs.js";
import { LoginPage } from "./login.js";
import { ChatPage } from "./chat.js";

const KEY = "heichat.try.session";

class App {
  constructor(about) {
    this.about = about; // {brand, server_name, people}
    this.page = null;
    this.hint = ""; // what the login page says first
    this.update = coalesced(() => this.#update());
    window.addEventListener("hashchange", () => this.update());
    document.addEventListener("visibilitychange", () => this.update());
    const saved = sessionStorage.getItem(KEY);
    if (saved) this.begin(JSON.parse(saved));
    else this.show();
  }

  // -- login ------------------------------------------------------------------------------------------------------

  async login(uniId, password) {
    const answer = await new Api().login(uniId, password);
    const session = { token: answer.access_token, userId: answer.user_id };
    sessionStorage.setItem(KEY, JSON.stringify(session)); // of this tab only: another tab can be somebody else
    this.open(null);
    this.begin(session);
  }

  /** Go on as somebody: nothing is known yet but the token. */
  begin({ token, userId }) {
    this.me = userId;
    this.api = new Api(token, () => this.#end(t("sessionGone")));
    this.store = new Store(userId);
    this.media = new Media(this.api, this.about.server_name);
    this.outbox = new Outbox(this.api, this.update, (error) => this.#consentForOutbox(error));
    this.drafts = new Map(); // room ID -> what is being written there
    this.ready = false;
    this.online = true;
    this.listening = new AbortController();
    this.show();
    listen({
      api: this.api,
      signal: this.listening.signal,
      heard: (answer, first) => this.#heard(answer, first),
      status: (online) => this.#status(online),
    });
  }

  logout() {
    this.api.logout().catch(() => {}); // the token is forgotten in any case
    this.#end("");
  }

  #end(hint) {
    if (!this.me) return;
    this.listening.abort();
    this.media.forget();
    sessionStorage.removeItem(KEY);
    this.me = this.api = this.store = null;
    this.hint = hint;
    this.open(null);
    this.show();
  }

  // -- what the server says ----------------------------------------------------------------------------------------

  #heard(answer, first) {
    const news = this.store.apply(answer);
    for (const [, event] of news) this.outbox.arrived(event);
    if (!first) this.#speak(news);
    this.ready = true;
    this.outbox.resume();
    this.update();
  }

  /** Screen readers hear what others write in the open room. */
  #speak(news) {
    for (const [room, event] of news) {
      if (room.id !== this.openRoom || event.sender === this.me || event.type !== "m.room.message") continue;
      if (event.content["m.relates_to"]?.rel_type !== "m.replace")
        say(`${personName(room, event.sender)}: ${event.content.body}`);
    }
  }

  #status(online) {
    if (online === this.online) return;
    this.online = online;
    if (online) {
      say(t("online"));
      this.outbox.resume();
    }
    this.update();
  }

  // -- what the person does ----------------------------------------------------------------------------------------

  /** Do something that the terms of use may stand in the way of: asks for agreement, and does it then. Throws what else
   *  goes wrong. */
  async act(action) {
    for (let again = false; ; again = true) {
      try {
        return await action();
      } catch (error) {
        if (!(error instanceof MatrixError) || !error.consentUri) throw error;
        if (!(await askConsent(error.consentUri, again))) throw new Error(t("notAgreed"));
      }
    }
  }

  /** The same for a click: what goes wrong is told. */
  async attempt(action) {
    try {
      return await this.act(action);
    } catch (error) {
      await ask({ text: t("notPossible", error.message) });
    }
  }

  async #consentForOutbox(error) {
    const refused = (item) => item.error?.consentUri;
    const again = this.asked === error.consentUri;
    this.asked = error.consentUri;
    if (await askConsent(error.consentUri, again)) this.outbox.resume(refused);
    else this.asked = null;
  }

  async accept(room) {
    const direct = room.content("m.room.member", this.me)?.is_direct && room.inviter;
    await this.api.join(room.id);
    if (direct) await this.rememberDirect(direct, room.id);
    this.open(room.id);
  }

  /** The ID of the room in which I talk with somebody alone; it is made if there is none. */
  async startDirect(userId) {
    const known = this.store.directRoom(userId);
    if (known) return known.id;
    const body = { is_direct: true, preset: "trusted_private_chat", invite: [userId] };
    const { room_id: roomId } = await this.api.createRoom(body);
    await this.rememberDirect(userId, roomId);
    return roomId;
  }

  rememberDirect(userId, roomId) {
    const rooms = new Set(this.store.direct[userId] ?? []).add(roomId);
    this.store.direct = { ...this.store.direct, [userId]: [...rooms] };
    return this.api.setAccountData(this.me, "m.direct", this.store.direct);
  }

  // -- what is shown -----------------------------------------------------------------------------------------------

  /** The ID of the open room, from the address, so that "back" works. */
  get openRoom() {
    try {
      return decodeURIComponent(location.hash.slice(2)) || null;
    } catch {
      return null; // somebody changed the address by hand
    }
  }

  open(roomId) {
    const hash = roomId ? `#/${encodeURIComponent(roomId)}` : "";
    if (location.hash === hash) return;
    if (hash) location.hash = hash;
    else history.pushState(null, "", location.pathname);
    this.update();
  }

  speak(language) {
    setLanguage(language);
    this.show();
  }

  /** Build the page anew. */
  show() {
    document.documentElement.lang = currentLanguage();
    this.page?.close();
    this.page = this.me ? new ChatPage(this) : new LoginPage(this);
    document.getElementById("app").replaceChildren(this.page.element);
    this.#update();
  }

  #update() {
    const room = this.store?.rooms.get(this.openRoom);
    const title = room ? roomName(room, this.me) : t("title", this.about.brand);
    const unread = this.store ? [...this.store.rooms.values()].filter((one) => one.unread || one.invited).length : 0;
    document.title = (unread ? `(${unread}) ` : "") + title;
    this.page.update();
  }
}

/** Calls that come at once become one. */
function coalesced(action) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    queueMicrotask(() => {
      waiting = false;
      action();
    });
  };
}

try {
  const response = await fetch("about.json");
  new App(await response.json());
} catch (error) {
  console.error(error);
  document
    .getElementById("app")
    .replaceChildren(h("main", { class: "welcome" }, h("p", { class: "notice" }, t("noServer"))));
}
