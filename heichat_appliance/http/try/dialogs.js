// Dialogs: questions, finding people, new rooms, the terms of use. All are <dialog>: Escape closes them, and the focus goes
// back to where it was.

import { h, link } from "./dom.js";
import { t } from "./text.js";
import { roomName } from "./names.js";
import { PeopleSearch } from "./people.js";

/** Show a dialog; promise of what `close(value)` was given, undefined if it was closed otherwise. */
function open(heading, fill) {
  return new Promise((done) => {
    let result;
    const close = (value) => {
      result = value;
      dialog.close();
    };
    const ended = () => {
      dialog.remove();
      done(result);
    };
    const title = h("h2", { id: `title-${crypto.randomUUID()}` }, heading);
    const dialog = h("dialog", { "aria-labelledby": title.id, onclose: ended }, title, fill(close));
    document.body.append(dialog);
    dialog.showModal();
  });
}

const button = (text, act, quiet = false) =>
  h("button", { type: "button", class: quiet ? "quiet" : null, onclick: act }, text);

/** A question to be answered with `yes` or not at all, or only a message; promise of whether it was answered so. */
export function ask({ text, yes }) {
  return open(text, (close) =>
    h(
      "div",
      { class: "answers" },
      yes && button(yes, () => close(true)),
      button(yes ? t("cancel") : t("close"), () => close(false), true),
    ),
  ).then(Boolean);
}

let asking = null; // the question for agreement that is open

/** Ask to agree to the terms of use; promise of whether the person says so. `again`: they said it, and it was not so. */
export function askConsent(uri, again) {
  asking ??= showConsent(uri, again).finally(() => (asking = null));
  return asking;
}

function showConsent(uri, again) {
  const back = new AbortController(); // ends the listening for the person's return from the page with the terms
  return open(t("consentHeading"), (close) => {
    const terms = link(uri, t("consentOpen"));
    terms.classList.add("button");
    const returned = () => document.visibilityState === "visible" && close(true);
    const opened = () => document.addEventListener("visibilitychange", returned, { signal: back.signal });
    terms.addEventListener("click", opened, { once: true });
    return h(
      "div",
      {},
      h("p", {}, t("consentText")),
      again && h("p", { class: "notice", role: "alert" }, t("consentNotYet")),
      h(
        "div",
        { class: "answers" },
        terms,
        button(t("consentDone"), () => close(true), true),
        button(t("cancel"), () => close(false), true),
      ),
    );
  }).then((answer) => {
    back.abort();
    return Boolean(answer);
  });
}

/** Choose a person, and go to the conversation with them. */
export function chooseDirect(app) {
  return open(t("newDirect"), (close) => {
    const chosen = (person) =>
      app.attempt(async () => {
        const roomId = await app.startDirect(person.user_id);
        close(); // first, so that the focus it gives back does not leave the room
        app.open(roomId);
      });
    const search = new PeopleSearch({ app, chosen, note: (id) => (id === app.me ? t("you") : "") });
    return h(
      "div",
      {},
      search.element,
      h(
        "div",
        { class: "answers" },
        button(t("close"), () => close(), true),
      ),
    );
  });
}

/** Invite people to a room, one after the other. */
export function inviteTo(app, room) {
  return open(t("inviteTo", roomName(room, app.me)), (close) => {
    const told = h("p", { role: "status" });
    const chosen = (person) =>
      app.attempt(async () => {
        await app.api.invite(room.id, person.user_id);
        told.textContent = t("inviteDone", person.display_name ?? person.user_id);
        search.clear();
      });
    const note = (id) => (["join", "invite"].includes(room.membership(id)) ? t("alreadyIn") : "");
    const search = new PeopleSearch({ app, chosen, note });
    return h(
      "div",
      {},
      search.element,
      told,
      h(
        "div",
        { class: "answers" },
        button(t("close"), () => close(), true),
      ),
    );
  });
}

/** Make a room, and go there to invite people. */
export function chooseRoom(app) {
  return open(t("newRoom"), (close) => {
    const name = h("input", { required: true, maxlength: "100", autocomplete: "off" });
    const submit = (event) => {
      event.preventDefault();
      if (!name.value.trim()) return;
      app.attempt(async () => {
        const { room_id: roomId } = await app.api.createRoom({ name: name.value.trim(), preset: "private_chat" });
        close();
        app.open(roomId);
      });
    };
    return h(
      "form",
      { class: "plain", onsubmit: submit },
      h("p", {}, t("roomHint")),
      h("label", {}, t("roomName"), name),
      h(
        "div",
        { class: "answers" },
        h("button", { type: "submit" }, t("create")),
        button(t("cancel"), () => close(), true),
      ),
    );
  });
}
