// People without a browser, who write what the browser is to show: a few calls of the client-server API.

import assert from "node:assert/strict";

const CLIENT = "/_matrix/client/v3";
export const segments = (...parts) => parts.map((part) => `/${encodeURIComponent(part)}`).join("");

export class Person {
    #count = 0;

    constructor(url, login) {
        this.url = url;
        this.id = login.user_id;
        this.token = login.access_token;
    }

    /** A demo person on a device of their own, who has agreed to the terms of use. */
    static async enter(url, uniId) {
        const body = {
            type: "m.login.password",
            identifier: { type: "m.id.user", user: uniId },
            password: `${uniId}-demo`,
        };
        const answer = await fetch(`${url}${CLIENT}/login`, { method: "POST", body: JSON.stringify(body) });
        const person = new Person(url, await answer.json());
        const refusal = await person.ask("POST", "/createRoom", { name: "x" });
        const link = new URL((await refusal.json()).consent_uri);
        await fetch(url + link.pathname, { method: "POST", body: link.searchParams });
        return person;
    }

    ask(method, path, body, headers = {}) {
        const address = this.url + (path.startsWith("/_matrix") ? path : CLIENT + path);
        const content = body instanceof Uint8Array ? body : JSON.stringify(body);
        return fetch(address, {
            method,
            body: content,
            headers: { Authorization: `Bearer ${this.token}`, ...headers },
        });
    }

    /** The JSON of an answer that must be 200; too many requests are waited for. */
    async call(method, path, body, headers) {
        for (;;) {
            const response = await this.ask(method, path, body, headers);
            const answer = await response.json();
            if (response.status === 429) await new Promise((done) => setTimeout(done, answer.retry_after_ms));
            else return (assert.equal(response.status, 200, `${method} ${path}: ${JSON.stringify(answer)}`), answer);
        }
    }

    /** A room with some others in it; its ID. */
    async room(body, ...others) {
        const { room_id: id } = await this.call("POST", "/createRoom", {
            ...body,
            invite: others.map((one) => one.id),
        });
        for (const other of others) await other.call("POST", `/join${segments(id)}`, {});
        return id;
    }

    /** Send an event (a string becomes a text message); its ID. */
    async send(room, content, type = "m.room.message") {
        const body = typeof content === "string" ? { msgtype: "m.text", body: content } : content;
        const path = `/rooms${segments(room)}/send${segments(type, `t${this.#count++}`)}`;
        return (await this.call("PUT", path, body)).event_id;
    }

    redact(room, event) {
        return this.call("PUT", `/rooms${segments(room)}/redact${segments(event, `t${this.#count++}`)}`, {});
    }

    /** Upload a file; its mxc URI. */
    async upload(bytes, type) {
        const answer = await this.call("POST", "/_matrix/media/v3/upload", bytes, { "Content-Type": type });
        return answer.content_uri;
    }
}
