// What both bars have.

import { h } from "./dom.js";
import { t, currentLanguage } from "./text.js";

/** Sign and name of the service, as on its other pages. */
export function brand(app) {
  return h(
    "a",
    { href: "/", class: "home" },
    h("img", { src: "/_heichat/icon.svg", alt: "", width: "28", height: "28" }),
    app.about.brand,
  );
}

/** The switch between German and English. */
export function languages(app) {
  const button = (language, name) =>
    h(
      "button",
      {
        type: "button",
        lang: language,
        "aria-pressed": String(currentLanguage() === language),
        onclick: () => app.speak(language),
        title: name,
      },
      language.toUpperCase(),
    );
  return h(
    "div",
    { class: "languages", role: "group", "aria-label": t("language") },
    button("de", "Deutsch"),
    button("en", "English"),
  );
}
