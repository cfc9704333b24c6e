// A round sign for a person or a room.

import { h } from "./dom.js";

/** A round sign with initials, in one of a few colours. */
export function face(name, id) {
  const colour = [...id].reduce((sum, letter) => sum + letter.codePointAt(0), 0) % 6;
  return h("span", { class: `face colour${colour}`, "aria-hidden": "true" }, initials(name));
}

/** "AM" of "Alice Müller". */
export function initials(name) {
  const words = name.split(/[\s.]+/).filter((word) => /^\p{Lu}/u.test(word) && !["Prof", "Dr"].includes(word));
  const chosen = words.length > 1 ? [words[0], words.at(-1)] : [words[0] ?? name];
  return chosen
    .map((word) => [...word][0] ?? "")
    .join("")
    .toUpperCase();
}
