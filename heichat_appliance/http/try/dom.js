// Making and updating elements. Strings always become text, never markup.

/** An element: `h("button", { class: "plain", onclick: act, "aria-label": "…" }, "text", child)`.
 *  Attributes that are false, null or undefined are left out; so are such children. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Make the children of `parent` those of `items` ({key, version, make}), in this order. A child whose key and version
 *  are the same stays as it is, with its focus and its images. */
export function reconcile(parent, items) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const { key, version, make } of items) {
    let child = old.get(key);
    old.delete(key);
    if (!child || child.dataset.version !== version) {
      const made = make();
      made.dataset.key = key;
      made.dataset.version = version;
      if (child) {
        replace(child, made);
        if (place === child) place = made;
      }
      child = made;
    }
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const child of old.values()) child.remove();
}

/** Exchange one element for a newer one; a button that had the focus keeps it (found by its data-action). */
function replace(old, made) {
  const action = old.contains(document.activeElement) && document.activeElement.dataset.action;
  old.replaceWith(made);
  if (action) (made.dataset.action === action ? made : made.querySelector(`[data-action="${action}"]`))?.focus();
}

const LINK = /https?:\/\/[^\s<>"'“”„]+/g;
const AFTER_LINK = /[.,;:!?)\]}]+$/;
const LONG_ADDRESS = 60; // characters

/** A text as strings and links. A link opens in a new tab, which learns nothing of this one. */
export function linked(text) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(LINK)) {
    const address = match[0].replace(AFTER_LINK, "");
    if (!URL.canParse(address)) continue;
    parts.push(text.slice(end, match.index), link(address, shortened(address)));
    end = match.index + address.length;
  }
  parts.push(text.slice(end));
  return parts;
}

/** An address in a length that can be read; where it leads to stays visible. */
const shortened = (address) =>
  address.length > LONG_ADDRESS ? `${address.slice(0, LONG_ADDRESS - 10)}…${address.slice(-5)}` : address;

/** A link that opens in a new tab. */
export function link(address, ...content) {
  return h("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, ...content);
}

/** Let a screen reader say a text. */
export function say(text) {
  const place = document.getElementById("spoken");
  place.replaceChildren(h("p", {}, text));
}
