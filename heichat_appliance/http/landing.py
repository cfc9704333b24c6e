"""The page at `/`: what the service is and how to connect. What it says follows the configuration, so that it is true."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import segno
from markupsafe import Markup

from heichat_appliance.http.element_web import ElementWeb
from heichat_appliance.http.pages import SharedPage, own_links
from heichat_appliance.http.routing import Auth, Request, Response, Route

#: employeeType in the embedded demo directory, in German.
_ROLES = {
    "administrator": "Administration",
    "doctoral candidate": "promoviert",
    "lecturer": "lehrt",
    "staff": "beschäftigt",
    "student": "studiert",
}


def routes(host: Any, element: ElementWeb) -> list[Route]:
    """`host`: the app.Appliance."""
    facts = _facts(host)
    people = getattr(host.identity, "people", ()) if host.demo else ()

    def values(lang: str) -> dict[str, Any]:
        return {**facts, "people": [_person(one, lang) for one in people], "links": own_links("/")}

    page = SharedPage(host.pages, "landing.html", values, scripts=True)

    def show(request: Request) -> Response:
        return page.answer(request, element=element.installed)

    return [Route(method="GET", path="/", handler=show, auth=Auth.NONE, limit="none", anchor="")]


def _facts(host: Any) -> dict[str, Any]:
    config = host.config
    public_url, conference = config["server"].public_url, config["web"].conference_url
    terms = "terms_consent" in host.plugins
    return {
        "demo": host.demo,
        "public_url": public_url,
        "secure": public_url.startswith("https:"),
        "qr": None if host.demo else _qr(public_url),  # no phone reaches the demo
        "calls": host.calls is not None,
        "conference": (conference, urlsplit(conference).netloc) if conference else None,
        "encryption": config["rooms"].encryption_default,
        "closed": "closed_rooms" in host.plugins,
        "terms": terms,
        "administrator": f"@{config['terms_consent'].administrator}:{host.server_name}" if terms else "",
        "support_email": config["server"].support_email,
    }


def _qr(url: str) -> Markup:
    """A QR code as SVG, in dark modules on whatever lies beneath."""
    svg = segno.make(url, error="m", micro=False).svg_inline(omitsize=True, border=2, svgclass=None, lineclass=None)
    return Markup(svg)  # made of numbers


def _person(one: Any, lang: str) -> dict[str, str]:
    """`one`: directory.people_file.DemoPerson."""
    role = _ROLES.get(one.role, one.role) if lang == "de" else one.role
    return {
        "uni_id": one.person.uni_id,
        "password": one.password,
        "name": one.person.display_name or one.person.uni_id,
        "role": role,
    }
