// Images and files of messages, fetched with the login (the server gives them to nobody else).

import { path } from "./api.js";

const SAFE_IMAGES = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"];
const MAX_KEPT = 60;

export class Media {
  /** `serverName`: whose files there are. */
  constructor(api, serverName) {
    this.api = api;
    this.serverName = serverName;
    this.kept = new Map(); // mxc URI -> promise of an object URL
  }

  /** Promise of an address for <img>, of at most 640 x 480 pixels. */
  image(uri) {
    if (!this.kept.has(uri)) {
      const query = { width: 640, height: 480, method: "scale" };
      this.kept.set(
        uri,
        this.#fetch("thumbnail", uri, query).then((blob) => URL.createObjectURL(this.#image(blob))),
      );
      this.kept.get(uri).catch(() => this.kept.delete(uri));
      this.#tidy();
    }
    return this.kept.get(uri);
  }

  /** Let the browser save a file under a name. Whatever it is, it is never opened in this page's name. */
  async save(uri, name) {
    const blob = await this.#fetch("download", uri);
    const address = URL.createObjectURL(new Blob([blob], { type: "application/octet-stream" }));
    const anchor = document.createElement("a");
    anchor.href = address;
    anchor.download = name;
    anchor.click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  }

  forget() {
    for (const promise of this.kept.values())
      promise.then(
        (address) => URL.revokeObjectURL(address),
        () => {},
      );
    this.kept.clear();
  }

  #image(blob) {
    if (!SAFE_IMAGES.includes(blob.type)) throw new Error(`not an image: ${blob.type}`);
    return blob;
  }

  async #fetch(what, uri, query) {
    const [, server, id] = /^mxc:\/\/([^/]+)\/([A-Za-z0-9_-]+)$/.exec(uri) ?? [];
    if (server !== this.serverName) throw new Error("not the address of a file");
    const response = await this.api.fetch("GET", `/_matrix/client/v1/media/${what}${path(server, id)}`, { query });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    return response.blob();
  }

  #tidy() {
    for (const [uri, promise] of this.kept) {
      if (this.kept.size <= MAX_KEPT) return;
      this.kept.delete(uri);
      promise.then(
        (address) => URL.revokeObjectURL(address),
        () => {},
      );
    }
  }
}
