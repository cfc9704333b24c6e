"""Pages for people: templates in German and English, and the headers that keep them safe.

Everything comes from this origin; the Content-Security-Policy allows nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from importlib.resources import files
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from heichat_appliance.http.fixed import Fixed
from heichat_appliance.http.routing import Auth, Request, Response, Route

LANGUAGES = ("de", "en")
_POLICY = (
    b"default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"Referrer-Policy", b"no-referrer"),
    (b"X-Frame-Options", b"DENY"),
    (b"Cross-Origin-Opener-Policy", b"same-origin"),
)
_VARY = b"Accept-Language, Accept-Encoding"
_TYPES = {"css": b"text/css; charset=utf-8", "js": b"text/javascript; charset=utf-8", "svg": b"image/svg+xml"}
_TEMPLATES = files("heichat_appliance.http") / "templates"
_ENVIRONMENT = Environment(
    loader=PackageLoader("heichat_appliance.http", "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
#: What all pages share, by its name under /_heichat/.
ASSETS = {
    name: Fixed((_TEMPLATES / name).read_bytes(), _TYPES[name.rpartition(".")[2]])
    for name in ("style.css", "page.js", "icon.svg")
}


def language(request: Request) -> str:
    """`de` or `en`: the query parameter `lang`, or what the browser prefers, or German."""
    chosen = request.query("lang")
    if chosen in LANGUAGES:
        return chosen
    return _preferred(request.exchange.headers.get("accept-language", ""))


def _preferred(header: str) -> str:
    best, best_weight = "de", 0.0
    for part in header.split(",")[:20]:
        name, _, weight = part.strip().partition(";q=")
        found = name.strip().lower().split("-")[0]
        try:
            value = float(weight) if weight else 1.0
        except ValueError:
            continue
        if found in LANGUAGES and value > best_weight:
            best, best_weight = found, value
    return best


class Link(NamedTuple):
    """A link at the foot of all pages. A page of this server (`url` begins with /) opens in the same language."""

    de: str
    en: str
    url: str


class Pages:
    """Makes pages that belong together: one brand, one foot."""

    #: The order of the foot.
    KINDS = ("terms", "privacy", "imprint", "help", "contact")

    def __init__(self, brand: str, links: dict[str, Link]) -> None:
        """`links`: by kind, see KINDS; plugins add those to their own pages."""
        self.brand = brand
        self.links = dict(links)

    def page(
        self, request: Request, template: str, *, status: int = 200, lang: str | None = None, **values: Any
    ) -> Response:
        """A page for one person, which nobody keeps, in the reader's language (or in `lang`)."""
        text = self.render(template, lang or language(request), **values)
        headers = (*_HEADERS, (b"Content-Security-Policy", _POLICY), (b"Vary", b"Accept-Language"))
        return Response(status, text.encode(), b"text/html; charset=utf-8", headers)

    def render(self, template: str, lang: str, **values: Any) -> str:
        """The HTML. Templates have `t(de, en, **values)`: a text in the reader's language, which may hold markup and
        `{names}` of values."""

        def t(de: str, en: str, **names: Any) -> Markup:
            return Markup(de if lang == "de" else en).format(**names)  # texts of templates only

        foot = [self.links[kind] for kind in self.KINDS if kind in self.links]
        versions = {name: asset.version for name, asset in ASSETS.items()}
        context = {"t": t, "lang": lang, "brand": self.brand, "foot": foot, "versions": versions, **values}
        return _ENVIRONMENT.get_template(template).render(context)


class SharedPage:
    """A page that is the same for everybody who reads the same language: made once for each state it depends on."""

    #: States that are remembered.
    MAX_KEPT = 32

    def __init__(
        self, pages: Pages, template: str, values: Callable[[str], dict[str, Any]], *, scripts: bool = False
    ) -> None:
        """`values(lang)`: of the template; `scripts`: whether it has one of this origin."""
        self._headers = (
            *_HEADERS,
            (b"Content-Security-Policy", _POLICY + (b"; script-src 'self'" if scripts else b"")),
        )
        self._pages = pages
        self._template = template
        self._values = values
        self._made: dict[tuple[Hashable, ...], Fixed] = {}

    def answer(self, request: Request, **state: Hashable) -> Response:
        """The page; `state` are further values of the template, of which there are few."""
        lang = language(request)
        key = (lang, *state.items())
        if key not in self._made:
            if len(self._made) >= self.MAX_KEPT:
                self._made.clear()
            text = self._pages.render(self._template, lang, **self._values(lang), **state)
            self._made[key] = Fixed(text.encode(), b"text/html; charset=utf-8", self._headers, vary=_VARY)
        return self._made[key].answer(request)


def own_links(path: str) -> dict[str, str]:
    """The same page in each language."""
    return {lang: f"{path}{'&' if '?' in path else '?'}lang={lang}" for lang in LANGUAGES}


def markdown(text: str) -> Markup:
    """Markdown as HTML; HTML in it is shown as text."""
    return Markup(_MARKDOWN.render(text))  # its HTML is off


def build(config: Any) -> Pages:
    """From the configuration (config.Config)."""
    web, server = config["web"], config["server"]
    links = {}
    if web.privacy_url:
        links["privacy"] = Link("Datenschutz", "Privacy", web.privacy_url)
    if web.imprint_url:
        links["imprint"] = Link("Impressum", "Imprint", web.imprint_url)
    if web.help_url:
        links["help"] = Link("Hilfe", "Help", web.help_url)
    if server.support_email:
        links["contact"] = Link("Kontakt", "Contact", f"mailto:{server.support_email}")
    return Pages(web.brand, links)


def routes() -> list[Route]:
    """What all pages share."""

    def asset(name: str, *also: str) -> Route:
        return Route(
            method="GET", path=f"/_heichat/{name}", also=also, handler=ASSETS[name].answer, auth=Auth.NONE,
            limit="none", anchor="",
        )  # fmt: skip

    return [asset("style.css"), asset("page.js"), asset("icon.svg", "/favicon.ico")]
