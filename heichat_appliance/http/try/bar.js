// What both bars have.

import { h } from "./dom.js";
import { t, currentLanguage } from "./text.js";

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
