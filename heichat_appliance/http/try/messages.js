// One line of a conversation as elements. Whatever others wrote is shown as text.

import { h, linked } from "./dom.js";
import { t, clockTime, dayName, currentLanguage } from "./text.js";
import { personName, sentence } from "./names.js";
import { face } from "./face.js";
import { ask } from "./dialogs.js";

const TOGETHER = 5 * 60_000; // milliseconds within which messages of one person stand together
const EMOJIS = ["👍", "❤️"];

const asText = (value) => (typeof value === "string" ? value : "");

/** The items of `timeline.fold` for dom.reconcile: a heading for each day, and the events. */
export function lines(app, room, items) {
  const result = [];
  let before = null;
  for (const item of items) {
    const { event } = item;
    const day = new Date(event.origin_server_ts).toDateString();
    if (day !== before?.day) {
      const name = dayName(event.origin_server_ts);
      result.push({ key: `day ${day}`, version: name, make: () => h("li", { class: "day" }, h("span", {}, name)) });
    }
    const isState = event.state_key !== undefined;
    const follows =
      !isState &&
      before?.sender === event.sender &&
      before.day === day &&
      event.origin_server_ts - before.time < TOGETHER;
    result.push(isState ? stateLine(room, event) : message(app, room, item, follows));
    before = { day, sender: isState ? null : event.sender, time: event.origin_server_ts };
  }
  return result;
}

function stateLine(room, event) {
  const text = sentence(room, event);
  return { key: event.event_id, version: text, make: () => h("li", { class: "event" }, text) };
}

function message(app, room, item, follows) {
  const { event } = item;
  const name = personName(room, event.sender);
  const quoted = quote(room, item);
  const mayDelete = event.sender === app.me || room.may(app.me, "redact");
  const reactions = item.reactions.map(({ key, senders }) => [key, [...senders.keys()]]);
  const version = JSON.stringify([
    currentLanguage(),
    name,
    follows,
    item.content,
    item.redacted,
    item.edited,
    reactions,
    quoted,
    mayDelete,
  ]);
  const make = () =>
    h(
      "li",
      { class: `message${event.sender === app.me ? " own" : ""}${follows ? " follows" : ""}` },
      face(name, event.sender),
      h(
        "div",
        { class: "said" },
        h(
          "p",
          { class: "meta" },
          h("strong", {}, name),
          " ",
          time(event.origin_server_ts),
          item.edited && h("small", {}, ` · ${t("edited")}`),
        ),
        quoted && h("p", { class: "quote" }, quoted),
        body(app, item),
        reactionList(app, room, item),
        item.redacted || event.type === "m.room.encrypted" ? null : actions(app, room, item, mayDelete),
      ),
    );
  return { key: event.event_id, version, make };
}

const time = (ms) => h("time", { datetime: new Date(ms).toISOString() }, clockTime(ms));

function body(app, item) {
  const { content } = item;
  if (item.redacted) return h("p", { class: "text soft" }, t("deleted"));
  if (item.event.type === "m.room.encrypted") return h("p", { class: "text soft" }, `🔒 ${t("encryptedMessage")}`);
  const text = withoutFallback(content);
  switch (content.msgtype) {
    case "m.image":
      return image(app, content);
    case "m.file":
    case "m.audio":
    case "m.video":
      return h("p", { class: "text" }, download(app, content));
    case "m.emote":
      return h("p", { class: "text" }, h("em", {}, linked(`* ${text}`)));
    default:
      if (!text) return h("p", { class: "text soft" }, t("unknown"));
      return h("p", { class: content.msgtype === "m.notice" ? "text soft" : "text" }, linked(text));
  }
}

function image(app, content) {
  const name = asText(content.filename) || asText(content.body);
  const picture = h("img", { alt: t("image", name) });
  const place = h("div", { class: "picture" }, picture);
  app.media.image(asText(content.url)).then(
    (address) => (picture.src = address),
    () => place.replaceChildren(h("p", { class: "text soft" }, t("imageLost", name))),
  );
  return h("div", {}, place, download(app, content));
}

function download(app, content) {
  const name = asText(content.filename) || asText(content.body) || "file";
  const act = () => app.attempt(() => app.media.save(asText(content.url), name));
  return h("button", { type: "button", class: "link", onclick: act }, t("download", name));
}

function reactionList(app, room, item) {
  if (item.reactions.length === 0) return null;
  const buttons = item.reactions.map(({ key, senders }) => {
    const names = [...senders.keys()].map((id) => personName(room, id)).join(", ");
    const own = senders.get(app.me);
    const act = () => app.attempt(() => (own ? redact(app, room, own) : react(app, room, item.event, key)));
    return h(
      "li",
      {},
      h(
        "button",
        {
          type: "button",
          "aria-pressed": String(Boolean(own)),
          title: names,
          "aria-label": t("reacted", key, names),
          "data-action": key,
          onclick: act,
        },
        `${[...key].slice(0, 12).join("")} ${senders.size}`,
      ),
    );
  });
  return h("ul", { class: "reactions" }, buttons);
}

function actions(app, room, item, mayDelete) {
  const { event } = item;
  const mine = (key) => item.reactions.some((one) => one.key === key && one.senders.has(app.me));
  const emojis = EMOJIS.filter((key) => !mine(key) && room.maySend(app.me, "m.reaction")).map((key) =>
    h(
      "button",
      {
        type: "button",
        "aria-label": t("react", key),
        "data-action": key,
        onclick: () => app.attempt(() => react(app, room, event, key)),
      },
      key,
    ),
  );
  const deleting = h(
    "button",
    {
      type: "button",
      "aria-label": t("deleteMessage"),
      onclick: () => remove(app, room, event),
    },
    t("delete"),
  );
  return h("div", { class: "actions" }, emojis, mayDelete && deleting);
}

const react = (app, room, event, key) =>
  app.api.send(room.id, "m.reaction", crypto.randomUUID(), {
    "m.relates_to": { rel_type: "m.annotation", event_id: event.event_id, key },
  });

async function remove(app, room, event) {
  const sure = await ask({ text: t("deleteQuestion"), yes: t("delete") });
  if (sure) await app.attempt(() => redact(app, room, event.event_id));
}

const redact = (app, room, eventId) => app.api.redact(room.id, eventId, crypto.randomUUID());

/** What a reply answers to, if that is known here. */
function quote(room, item) {
  const id = item.redacted ? null : item.event.content["m.relates_to"]?.["m.in_reply_to"]?.event_id;
  const event = id && room.events.find((one) => one.event_id === id);
  return event ? `${personName(room, event.sender)}: ${asText(event.content.body).slice(0, 120)}` : null;
}

/** The text of a message, without the quotation that older clients put before their answers. */
function withoutFallback(content) {
  const text = asText(content.body);
  const isReply = content["m.relates_to"]?.["m.in_reply_to"];
  return isReply && text.startsWith("> <") ? text.replace(/^(>.*\n)+\n?/, "") : text;
}

/** A message in one line, for the list of rooms. */
export function preview(room, item, me) {
  const who = item.event.sender === me ? t("you") : personName(room, item.event.sender);
  const what = item.redacted
    ? t("deleted")
    : item.event.type === "m.room.encrypted"
      ? `🔒 ${t("encryptedMessage")}`
      : withoutFallback(item.content).slice(0, 100);
  return room.isNotice ? what : `${who}: ${what}`;
}

/** A message on its way. */
export function pending(app, item) {
  const failed = item.status === "failed";
  const why = failed
    ? t("failed", item.error.consentUri ? t("notAgreed") : item.error.message)
    : t(item.status === "waiting" ? "waiting" : "sending");
  const again = () => {
    app.outbox.resume((one) => one === item);
  };
  const make = () =>
    h(
      "li",
      { class: `message own pending${failed ? " failed" : ""}` },
      face(personName(null, app.me), app.me),
      h(
        "div",
        { class: "said" },
        h("p", { class: "text" }, linked(item.content.body)),
        h("p", { class: "state", role: failed ? "alert" : null }, why),
        failed &&
          h(
            "div",
            { class: "answers" },
            h("button", { type: "button", onclick: again }, t("retry")),
            h("button", { type: "button", class: "quiet", onclick: () => app.outbox.discard(item) }, t("discard")),
          ),
      ),
    );
  return { key: item.transaction, version: JSON.stringify([currentLanguage(), why]), make };
}
