// What this person knows: rooms, who is in them, what was said. Filled by the answers of /sync; knows no page.

/** One room: joined, or an invitation to one. */
export class Room {
  constructor(id) {
    this.id = id;
    this.invited = false;
    this.state = new Map(); // "type\nkey" -> event
    this.events = []; // the timeline, oldest first
    this.older = null; // where the history goes on, null at its beginning
    this.unread = 0;
    this.highlighted = 0;
    this.typing = [];
    this.read = new Map(); // user ID -> the event they have read up to
    this.isNotice = false; // the room in which the service itself writes
    this.heroes = []; // who gives a room without a name its name
    this.latest = 0; // time of the newest event that is worth a look
    this.inviter = null;
  }

  content(type, key = "") {
    return this.state.get(`${type}\n${key}`)?.content;
  }

  get members() {
    return [...this.state.values()].filter((event) => event.type === "m.room.member");
  }

  membership(userId) {
    return this.content("m.room.member", userId)?.membership;
  }

  get isEncrypted() {
    return Boolean(this.content("m.room.encryption"));
  }

  /** Whether the beginning of the room is known, or there is more to fetch. */
  get isWhole() {
    return this.older === null || this.events[0]?.type === "m.room.create";
  }

  /** What somebody may do, by the power levels. The creators of rooms of version 12 stand above all. */
  level(userId) {
    const levels = this.content("m.room.power_levels") ?? {};
    const create = this.state.get("m.room.create\n");
    if (Number(create?.content.room_version) >= 12) {
      if (create.sender === userId || create.content.additional_creators?.includes(userId)) return Infinity;
    }
    return levels.users?.[userId] ?? levels.users_default ?? 0;
  }

  maySend(userId, type = "m.room.message") {
    const levels = this.content("m.room.power_levels") ?? {};
    return this.level(userId) >= (levels.events?.[type] ?? levels.events_default ?? 0);
  }

  may(userId, action) {
    const usual = { invite: 0, redact: 50 };
    return this.level(userId) >= (this.content("m.room.power_levels")?.[action] ?? usual[action]);
  }

  putState(event) {
    this.state.set(`${event.type}\n${event.state_key}`, event);
  }
}

export class Store {
  constructor(me) {
    this.me = me;
    this.rooms = new Map();
    this.direct = {}; // m.direct: user ID -> room IDs
  }

  /** Take in an answer of /sync. The new events of joined rooms, as [room, event]. */
  apply(answer) {
    const news = [];
    for (const event of answer.account_data?.events ?? []) {
      if (event.type !== "m.direct") continue;
      this.direct = Object.fromEntries(Object.entries(event.content).filter(([, rooms]) => Array.isArray(rooms)));
    }
    for (const [id, part] of Object.entries(answer.rooms?.invite ?? {})) this.#invited(id, part);
    for (const [id, part] of Object.entries(answer.rooms?.join ?? {})) this.#joined(id, part, news);
    for (const id of Object.keys(answer.rooms?.leave ?? {})) this.rooms.delete(id);
    return news;
  }

  #invited(id, part) {
    const room = new Room(id);
    room.invited = true;
    for (const event of part.invite_state?.events ?? []) room.putState(event);
    const mine = room.state.get(`m.room.member\n${this.me}`);
    room.inviter = mine?.sender ?? null;
    room.latest = mine?.origin_server_ts ?? Date.now();
    this.rooms.set(id, room);
  }

  #joined(id, part, news) {
    let room = this.rooms.get(id);
    if (!room || room.invited) this.rooms.set(id, (room = new Room(id)));
    const timeline = part.timeline ?? {};
    if (timeline.limited) {
      room.events = []; // there is a gap; what lies before it is fetched again when somebody scrolls up
      room.older = timeline.prev_batch ?? null;
    }
    if (room.events.length === 0) room.older = timeline.prev_batch ?? room.older;
    for (const event of part.state?.events ?? []) room.putState(event);
    for (const event of timeline.events ?? []) {
      if (event.state_key !== undefined) room.putState(event);
      room.events.push(event);
      room.latest = Math.max(room.latest, worthALook(event) ? event.origin_server_ts : 0);
      news.push([room, event]);
    }
    this.#counted(room, part);
    for (const event of part.account_data?.events ?? []) {
      if (event.type === "m.tag") room.isNotice = "m.server_notice" in (event.content.tags ?? {});
    }
    for (const event of part.ephemeral?.events ?? []) this.#passing(room, event);
  }

  #counted(room, part) {
    room.unread = part.unread_notifications?.notification_count ?? room.unread;
    room.highlighted = part.unread_notifications?.highlight_count ?? room.highlighted;
    room.heroes = part.summary?.["m.heroes"] ?? room.heroes;
    if (!room.latest) room.latest = room.events.at(-1)?.origin_server_ts ?? 0;
  }

  #passing(room, event) {
    if (event.type === "m.typing") room.typing = event.content.user_ids.filter((id) => id !== this.me);
    if (event.type !== "m.receipt") return;
    for (const [eventId, kinds] of Object.entries(event.content)) {
      for (const userId of Object.keys(kinds["m.read"] ?? {})) room.read.set(userId, eventId);
    }
  }

  /** Put a page of older events before the others. */
  addOlder(room, answer) {
    const known = new Set(room.events.map((event) => event.event_id));
    const page = answer.chunk.filter((event) => !known.has(event.event_id)).reverse();
    room.events = [...page, ...room.events];
    room.older = answer.chunk.length > 0 ? (answer.end ?? null) : null;
  }

  /** Invitations first, then by what happened last. */
  sorted() {
    return [...this.rooms.values()].sort((a, b) => b.invited - a.invited || b.latest - a.latest);
  }

  /** The room in which I talk with this person alone, if there is one. */
  directRoom(userId) {
    const ids = this.direct[userId] ?? [];
    return ids.map((id) => this.rooms.get(id)).find((room) => room && !room.invited);
  }
}

const worthALook = (event) =>
  ["m.room.message", "m.room.encrypted", "m.room.create", "m.room.member"].includes(event.type);
