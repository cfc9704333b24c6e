// From events to what is shown: edits, reactions and deletions are brought to the messages they are about.

/** The items of a timeline, oldest first: `{event, content, redacted, edited, reactions}`, where `reactions` is a list of
 *  `{key, senders: Map(user ID -> event ID)}`. Events that only change others have no item of their own. */
export function fold(events) {
  const changes = collect(events);
  return events
    .filter((event, index) => isShown(event) && !isCreatorsJoin(event, events[index - 1]))
    .map((event) => {
      const redacted = isRedacted(event, changes.redacted);
      const edit = redacted ? undefined : newestEdit(event, changes);
      const reactions = redacted ? undefined : changes.reactions.get(event.event_id);
      return {
        event,
        content: edit?.content["m.new_content"] ?? event.content,
        redacted,
        edited: Boolean(edit),
        reactions: reactions ? [...reactions].map(([key, senders]) => ({ key, senders })) : [],
      };
    });
}

function collect(events) {
  const redacted = new Set(events.filter((event) => event.type === "m.room.redaction").map(redactedBy));
  const edits = new Map(); // event ID -> newest edit
  const reactions = new Map(); // event ID -> Map(key -> Map(sender -> event ID))
  for (const event of events) {
    const relation = event.content["m.relates_to"];
    if (typeof relation?.event_id !== "string" || isRedacted(event, redacted)) continue;
    if (relation.rel_type === "m.replace" && event.type === "m.room.message" && event.content["m.new_content"]) {
      edits.set(relation.event_id + event.sender, event);
    } else if (
      event.type === "m.reaction" &&
      relation.rel_type === "m.annotation" &&
      typeof relation.key === "string"
    ) {
      if (!reactions.has(relation.event_id)) reactions.set(relation.event_id, new Map());
      const byKey = reactions.get(relation.event_id);
      if (!byKey.has(relation.key)) byKey.set(relation.key, new Map());
      byKey.get(relation.key).set(event.sender, event.event_id);
    }
  }
  return { redacted, edits, reactions };
}

const redactedBy = (event) => event.content.redacts ?? event.redacts;
const isRedacted = (event, redacted) => Boolean(event.unsigned?.redacted_because) || redacted.has(event.event_id);

/** Only the writer can edit a message. The server bundles the newest edit with what it sends. */
function newestEdit(event, changes) {
  const seen = changes.edits.get(event.event_id + event.sender);
  const bundled = event.unsigned?.["m.relations"]?.["m.replace"];
  return seen ?? (bundled?.content?.["m.new_content"] && !changes.redacted.has(bundled.event_id) ? bundled : undefined);
}

const SHOWN_STATE = new Set([
  "m.room.create",
  "m.room.member",
  "m.room.name",
  "m.room.topic",
  "m.room.encryption",
  "m.room.tombstone",
]);

function isShown(event) {
  if (event.state_key !== undefined) return SHOWN_STATE.has(event.type) && !saysNothing(event);
  if (event.type === "m.room.encrypted") return true;
  return event.type === "m.room.message" && event.content["m.relates_to"]?.rel_type !== "m.replace";
}

/** Whoever makes a room is in it: no need to say so. */
const isCreatorsJoin = (event, before) =>
  event.type === "m.room.member" && before?.type === "m.room.create" && event.state_key === before.sender;

/** A membership that was only confirmed. */
function saysNothing(event) {
  const before = event.unsigned?.prev_content;
  return (
    event.type === "m.room.member" &&
    before?.membership === event.content.membership &&
    before.displayname === event.content.displayname
  );
}
