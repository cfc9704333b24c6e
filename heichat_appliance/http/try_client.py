"""`/try/`: a small browser client for the first minute of a demo; plain ES modules, served as they are.

A server with a real configuration does not have it: the page tells everybody the passwords of the demo people.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from typing import Any

from heichat_appliance.errors import not_found
from heichat_appliance.http.fixed import Fixed
from heichat_appliance.http.routing import Auth, Request, Response, Route

PATH = "/try/"
_TYPES = {
    "html": b"text/html; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "css": b"text/css; charset=utf-8",
}
_HEADERS = (
    (
        b"Content-Security-Policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        b"require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    (b"Referrer-Policy", b"no-referrer"),
    (b"X-Frame-Options", b"DENY"),
    (b"Cross-Origin-Opener-Policy", b"same-origin"),
)


class TryClient:
    """The page, its modules, and who can be tried out."""

    def __init__(self, people: Iterable[Any], brand: str, server_name: str) -> None:
        """`people`: of the demo directory (directory.people_file.DemoPerson)."""
        self._files = {
            path.name: Fixed(path.read_bytes(), _TYPES[path.name.rpartition(".")[2]], _HEADERS)
            for path in (files(__package__) / "try").iterdir()
        }
        self._about = {
            "brand": brand,
            "server_name": server_name,
            "people": [
                {
                    "uni_id": one.person.uni_id,
                    "name": one.person.display_name or one.person.uni_id,
                    "role": one.role,
                    "password": one.password,
                }
                for one in people
            ],
        }

    def page(self, request: Request) -> Response:
        """The page."""
        return self._send(request, "index.html")

    def file(self, request: Request) -> Response:
        """A module or the style sheet; 404 for anything else."""
        return self._send(request, request.params["name"])

    def about(self, _: Request) -> dict[str, Any]:
        """What the page shows before the login: `{brand, server_name, people: [{uni_id, name, role, password}]}`."""
        return self._about

    @staticmethod
    def to_page(_: Request) -> Response:
        """Who forgot the slash at the end."""
        return Response(308, PATH.encode(), b"text/plain", ((b"Location", PATH.encode()),))

    def _send(self, request: Request, name: str) -> Response:
        content = self._files.get(name)
        if content is None:
            raise not_found("there is no such file / Diese Datei gibt es nicht")
        return content.answer(request)


def routes(people: Iterable[Any], brand: str, server_name: str) -> list[Route]:
    """For the demo only."""
    client = TryClient(people, brand, server_name)
    common: dict[str, Any] = {"method": "GET", "auth": Auth.NONE, "limit": "anonymous", "anchor": ""}
    return [
        Route(path="/try", handler=client.to_page, **common),
        Route(path=PATH, handler=client.page, **common),
        Route(path=f"{PATH}about.json", handler=client.about, **common),
        Route(path=PATH + "{name}", handler=client.file, **common),
    ]
