// The Matrix client-server API, as much of it as this page needs. https://spec.matrix.org/v1.19/client-server-api/

const CLIENT = "/_matrix/client/v3";
const PATIENCE = 30_000; // milliseconds until an unanswered request counts as failed

/** The server refused: `status`, `errcode`, `message`, and for unmet terms of use `consentUri`. */
export class MatrixError extends Error {
  constructor(status, body) {
    super(body.error || `HTTP ${status}`);
    this.status = status;
    this.errcode = body.errcode || "M_UNKNOWN";
    this.consentUri = body.errcode === "M_CONSENT_NOT_GIVEN" ? body.consent_uri : undefined;
    this.retryAfter = body.retry_after_ms;
  }
}

/** No answer came, or none of the server's own: it may help to try again. */
export class Unreachable extends Error {}

export const path = (...segments) => segments.map((segment) => "/" + encodeURIComponent(segment)).join("");
export const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

export class Api {
  /** `gone()` is called when the server does not know the login any more. */
  constructor(token = null, gone = () => {}) {
    this.token = token;
    this.gone = gone;
  }

  /** The JSON of an answer. `address` is in the client API, or begins with /_matrix. Too many requests are waited for. */
  async request(method, address, { body, query, signal, patience = PATIENCE } = {}) {
    for (let attempt = 0; ; attempt++) {
      const response = await this.fetch(method, address, { body, query, signal, patience });
      const answer = await response.json().catch(() => ({}));
      if (response.ok) return answer;
      if (response.status >= 500) throw new Unreachable(answer.error || `HTTP ${response.status}`);
      const error = new MatrixError(response.status, answer);
      if (response.status === 401 && this.token) this.gone();
      if (response.status !== 429 || attempt === 3) throw error;
      await wait(Math.min(error.retryAfter ?? 1000, 10_000));
    }
  }

  /** The bare response. Throws Unreachable, or AbortError if `signal` said so. */
  async fetch(method, address, { body, query, signal, patience = PATIENCE } = {}) {
    const url =
      (address.startsWith("/_matrix") ? address : CLIENT + address) + (query ? "?" + new URLSearchParams(query) : "");
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const limit = AbortSignal.timeout(patience);
    try {
      return await fetch(url, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: signal ? AbortSignal.any([signal, limit]) : limit,
        cache: "no-store",
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Unreachable(error.message);
    }
  }

  login(user, password) {
    return this.request("POST", "/login", {
      body: {
        type: "m.login.password",
        identifier: { type: "m.id.user", user },
        password,
        initial_device_display_name: "heiCHAT /try/",
      },
    });
  }

  logout() {
    return this.request("POST", "/logout", { body: {} });
  }

  /** `timeout`: milliseconds that the server may wait until there is something to tell. */
  sync(since, timeout, signal) {
    const filter = JSON.stringify({ room: { timeline: { limit: 30 } }, presence: { types: [] } });
    const query = since ? { since, timeout, filter } : { timeout, filter };
    return this.request("GET", "/sync", { query, signal, patience: 60_000 });
  }

  messages(roomId, from) {
    return this.request("GET", `/rooms${path(roomId)}/messages`, { query: { dir: "b", from, limit: 50 } });
  }

  /** Send an event; the same `transaction` again has no second effect. */
  send(roomId, type, transaction, content) {
    return this.request("PUT", `/rooms${path(roomId)}/send${path(type, transaction)}`, { body: content });
  }

  redact(roomId, eventId, transaction) {
    return this.request("PUT", `/rooms${path(roomId)}/redact${path(eventId, transaction)}`, { body: {} });
  }

  typing(roomId, userId, typing) {
    const body = typing ? { typing, timeout: 20_000 } : { typing };
    return this.request("PUT", `/rooms${path(roomId)}/typing${path(userId)}`, { body });
  }

  markRead(roomId, eventId) {
    return this.request("POST", `/rooms${path(roomId)}/receipt/m.read${path(eventId)}`, { body: {} });
  }

  createRoom(body) {
    return this.request("POST", "/createRoom", { body });
  }

  join(roomId) {
    return this.request("POST", `/join${path(roomId)}`, { body: {} });
  }

  leave(roomId) {
    return this.request("POST", `/rooms${path(roomId)}/leave`, { body: {} });
  }

  invite(roomId, userId) {
    return this.request("POST", `/rooms${path(roomId)}/invite`, { body: { user_id: userId } });
  }

  searchPeople(term) {
    return this.request("POST", "/user_directory/search", { body: { search_term: term, limit: 8 } });
  }

  setAccountData(userId, type, content) {
    return this.request("PUT", `/user${path(userId)}/account_data${path(type)}`, { body: content });
  }
}
