// Finding a person in the directory.

import { h } from "./dom.js";
import { t } from "./text.js";
import { uniId } from "./names.js";
import { face } from "./face.js";

const PAUSE = 250; // milliseconds without a key until the directory is asked
const SHORTEST = 2; // characters of a search

export class PeopleSearch {
  /** `chosen(person)` gets {user_id, display_name}; people for whom `note(user ID)` is not "" can't be chosen. */
  constructor({ app, chosen, note }) {
    this.app = app;
    this.chosen = chosen;
    this.note = note;
    this.timer = null;
    this.field = h("input", {
      type: "search",
      autocomplete: "off",
      autocapitalize: "none",
      spellcheck: "false",
      oninput: () => this.#typed(),
    });
    this.told = h("p", { class: "soft", role: "status" }, t("findHint"));
    this.list = h("ul", { class: "found" });
    this.element = h("div", { class: "search" }, h("label", {}, t("findPerson"), this.field), this.told, this.list);
  }

  clear() {
    this.field.value = "";
    this.#show([], t("findHint"));
    this.field.focus();
  }

  #typed() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#search(this.field.value.trim()), PAUSE);
  }

  async #search(term) {
    if (term.length < SHORTEST) return this.#show([], t("findHint"));
    try {
      const { results } = await this.app.api.searchPeople(term);
      if (term !== this.field.value.trim()) return; // somebody typed on
      this.#show(results, results.length ? t("found", results.length) : t("nobody"));
    } catch (error) {
      this.#show([], t("notPossible", error.message));
    }
  }

  #show(people, text) {
    this.told.textContent = text;
    this.list.replaceChildren(...people.map((person) => h("li", {}, this.#entry(person))));
  }

  #entry(person) {
    const name = person.display_name || uniId(person.user_id);
    const note = this.note(person.user_id);
    return h(
      "button",
      { type: "button", class: "entry", disabled: note !== "", onclick: () => this.chosen(person) },
      face(name, person.user_id),
      h(
        "span",
        { class: "what" },
        h("strong", {}, name),
        h("small", {}, [uniId(person.user_id), note].filter(Boolean).join(" · ")),
      ),
    );
  }
}
