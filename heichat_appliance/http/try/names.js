// How rooms and people are called, and what happened as sentences.

import { t } from "./text.js";

/** A person's name in a room, or their Uni-ID. Who has left is called as before. */
export function personName(room, userId) {
  const member = room?.state.get(`m.room.member\n${userId}`);
  const name = member?.content.displayname ?? member?.unsigned?.prev_content?.displayname;
  return typeof name === "string" && name.trim() ? name : uniId(userId);
}

export const uniId = (userId) => userId.slice(1).split(":")[0];

/** A room's name; without one it is called after the people in it. */
export function roomName(room, me) {
  const name = room.content("m.room.name")?.name ?? room.content("m.room.canonical_alias")?.alias;
  if (typeof name === "string" && name.trim()) return name;
  const others = room.members
    .filter((event) => event.state_key !== me && ["join", "invite"].includes(event.content.membership))
    .map((event) => event.state_key);
  const people = (others.length > 0 ? others : room.heroes).map((id) => personName(room, id)).sort();
  if (people.length === 0) return room.inviter ? personName(room, room.inviter) : t("emptyRoom");
  if (people.length === 1) return people[0];
  return people.length === 2 ? t("and", ...people) : t("andOthers", people.slice(0, 2).join(", "));
}

/** Whose sign a room bears: the other person's, if there is but one; else its own. */
export function signOf(room, me) {
  const others = room.members.filter(
    (event) => event.state_key !== me && ["join", "invite"].includes(event.content.membership),
  );
  return others.length === 1 && !room.content("m.room.name") ? others[0].state_key : room.id;
}

/** What an event of a room's state tells, as a sentence. */
export function sentence(room, event) {
  const who = personName(room, event.sender);
  const { content } = event;
  switch (event.type) {
    case "m.room.create":
      return t("made", who);
    case "m.room.name":
      return content.name ? t("named", who, content.name) : t("unnamed", who);
    case "m.room.topic":
      return t("topicSet", who, String(content.topic ?? ""));
    case "m.room.encryption":
      return t("encrypted", who);
    case "m.room.tombstone":
      return t("replaced", who);
    default:
      return membershipSentence(room, event, who);
  }
}

function membershipSentence(room, event, who) {
  const before = event.unsigned?.prev_content ?? {};
  const whom = event.content.displayname || before.displayname || personName(room, event.state_key);
  const own = event.sender === event.state_key;
  switch (event.content.membership) {
    case "invite":
      return t("invited", who, whom);
    case "join":
      return before.membership === "join"
        ? t("renamed", before.displayname || uniId(event.state_key), whom)
        : t("joined", whom);
    case "knock":
      return t("knocked", whom);
    case "ban":
      return t("banned", who, whom);
    default:
      if (own) return t(before.membership === "invite" ? "rejected" : "left", whom);
      return t({ invite: "withdrawn", ban: "unbanned" }[before.membership] ?? "kicked", who, whom);
  }
}
