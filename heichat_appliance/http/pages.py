"""Pages for people: templates in German and English, and the headers that keep them safe.

Everything comes from this origin; the Content-Security-Policy allows nothing else and no script.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from heichat_appliance.http.routing import Auth, Request, Response, Route

LANGUAGES = ("de", "en")
_HEADERS = (
    (
        b"Content-Security-Policy",
        b"default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        b"frame-ancestors 'none'",
    ),
    (b"Referrer-Policy", b"no-referrer"),
    (b"X-Frame-Options", b"DENY"),
    (b"Vary", b"Accept-Language"),
)
_STYLE = (files("heichat_appliance.http") / "templates" / "style.css").read_bytes()
_ENVIRONMENT = Environment(
    loader=PackageLoader("heichat_appliance.http", "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


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


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """A page from a template, in the reader's language."""
    lang = values.pop("lang", None) or language(request)
    text = _ENVIRONMENT.get_template(template).render(lang=lang, **values)
    return Response(status, text.encode(), b"text/html; charset=utf-8", _HEADERS)


def markdown(text: str) -> Markup:
    """Markdown as HTML; HTML in it is shown as text."""
    return Markup(_MARKDOWN.render(text))


def style(_: Request) -> Response:
    """The style sheet of all pages."""
    return Response(200, _STYLE, b"text/css; charset=utf-8", ((b"Cache-Control", b"max-age=3600"),))


def routes() -> list[Route]:
    """What all pages share."""
    return [
        Route(
            method="GET", path="/_heichat/style.css", handler=style, auth=Auth.NONE, limit="anonymous", anchor="",
        ),
    ]  # fmt: skip
