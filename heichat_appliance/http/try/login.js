// Before the login: the people of the demo, a click each.

import { MatrixError } from "./api.js";
import { h } from "./dom.js";
import { t, roleName } from "./text.js";
import { face } from "./face.js";
import { brand, languages } from "./bar.js";

export class LoginPage {
  constructor(app) {
    this.app = app;
    this.busy = false;
    this.message = h("p", { class: "notice", role: "alert", hidden: !app.hint }, app.hint);
    this.element = h("div", { class: "login" }, this.#bar(), this.#main());
  }

  close() {}

  update() {}

  #bar() {
    return h("header", { class: "bar" }, h("p", { class: "brand" }, brand(this.app)), languages(this.app));
  }

  #main() {
    return h(
      "main",
      {},
      h("h1", {}, t("signInHeading")),
      h("p", {}, t("signInHow")),
      this.message,
      h(
        "ul",
        { class: "cards" },
        this.app.about.people.map((person) => h("li", {}, this.#card(person))),
      ),
      h("details", { class: "other" }, h("summary", {}, t("signInOther")), this.#form()),
      h("p", { class: "honest" }, t("honest")),
    );
  }

  #card(person) {
    const act = () => this.#login(person.uni_id, person.password);
    return h(
      "button",
      { class: "card", type: "button", onclick: act },
      face(person.name, `@${person.uni_id}:${this.app.about.server_name}`),
      h(
        "span",
        { class: "who" },
        h("strong", {}, person.name),
        h("small", {}, `${person.uni_id} · ${roleName(person.role)}`),
      ),
    );
  }

  #form() {
    const user = h("input", {
      name: "user",
      autocomplete: "username",
      required: true,
      autocapitalize: "none",
      spellcheck: "false",
    });
    const password = h("input", {
      name: "password",
      type: "password",
      autocomplete: "current-password",
      required: true,
    });
    const submit = (event) => {
      event.preventDefault();
      this.#login(user.value.trim(), password.value);
    };
    return h(
      "form",
      { class: "plain", onsubmit: submit },
      h("label", {}, t("uniId"), user),
      h("label", {}, t("password"), password),
      h("button", { type: "submit" }, t("signIn")),
    );
  }

  async #login(user, password) {
    if (this.busy) return; // a double click
    this.busy = true;
    this.#tell(t("signingIn"));
    try {
      await this.app.login(user, password);
    } catch (error) {
      const wrong = error instanceof MatrixError && error.status === 403;
      this.#tell(wrong ? t("wrongPassword") : error instanceof MatrixError ? error.message : t("noServer"));
    }
    this.busy = false;
  }

  #tell(text) {
    this.message.textContent = text;
    this.message.hidden = false;
  }
}
