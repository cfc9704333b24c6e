"""Plugin `terms_consent`: nobody creates rooms or chats before agreeing to the terms of use.

At the first login the administrator account invites the person to a room "Server Notices", whose message holds a personal
link to the page with the terms; a new version asks again.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from twisted.plugin import IPlugin
from zope.interface import implementer

from heichat_appliance.config import ConfigErrors, Option, Settings, path, text
from heichat_appliance.extension import IConnected, IExtension, IPages, IRequestGate
from heichat_appliance.http import pages
from heichat_appliance.http.routing import Auth, Request, Response, Route
from heichat_appliance.services.consent import PATH, Consent, load_key
from heichat_appliance.services.notices import Notices

_JOINS = ("/_matrix/client/v3/rooms/{roomId}/join", "/_matrix/client/v3/join/{roomIdOrAlias}")


@implementer(IConnected, IRequestGate, IPages)
class TermsConsent:
    """The gate, the page and the notices."""

    def __init__(self, version: str, documents: dict[str, dict[str, str]], administrator: str) -> None:
        """`documents`: Markdown by kind ("terms", and "privacy" if it is a document of its own) and language."""
        self._version = version
        self._documents = {
            kind: {lang: pages.markdown(text) for lang, text in texts.items()} for kind, texts in documents.items()
        }
        self._administrator = administrator
        self._pages: pages.Pages = None  # type: ignore[assignment]  # both are made in connect()
        self._consent: Consent = None  # type: ignore[assignment]
        self._origin = ""

    def connect(self, host: Any) -> None:
        """Take what the appliance offers."""
        public_url = host.config["server"].public_url
        self._origin = "{0.scheme}://{0.netloc}".format(urlsplit(public_url))
        administrator = f"@{self._administrator}:{host.server_name}"
        try:
            host.accounts.reserve(administrator)
        except ValueError as error:
            raise ConfigErrors([f"[terms_consent] administrator: {error} (hint: choose a name that is no Uni-ID)"])
        notices = Notices(host.timeline, host.server_name, administrator)
        self._consent = Consent(
            host.engine, host.clock, notices, version=self._version, public_url=public_url,
            brand=host.pages.brand, key=load_key(host.data_dir),
        )  # fmt: skip
        host.login.every_login.append(self._consent.ask)
        self._pages = host.pages
        for kind in self._documents:
            host.pages.links.setdefault(kind, _LINKS[kind])

    def check_request(self, request: Request) -> None:
        """The gate: everything but joining the room of notices needs agreement."""
        if self._consent.has_agreed(request.user_id):
            return
        if request.route.path in _JOINS:
            room = request.params.get("roomId") or request.params.get("roomIdOrAlias")
            if room == self._consent.notice_room(request.user_id):
                return
        self._consent.require(request.user_id)

    # -- the page ------------------------------------------------------------------------------------------------

    def routes(self) -> list[Route]:
        """The page with the terms, agreeing to them, and the documents for everybody to read."""
        common: dict[str, Any] = {"path": PATH, "auth": Auth.NONE, "limit": "anonymous", "anchor": ""}
        return [
            Route(method="GET", handler=self._show, **common),
            Route(method="POST", handler=self._agree, body=bytes, max_body=4096, **common),
            *(self._document(kind) for kind in self._documents),
        ]

    def _document(self, kind: str) -> Route:
        """One document, at /terms or /privacy."""
        link, texts = _LINKS[kind], self._documents[kind]

        def values(lang: str) -> dict[str, Any]:
            heading = link.de if lang == "de" else link.en
            return {"heading": heading, "text": texts[lang], "links": pages.own_links(link.url)}

        page = pages.SharedPage(self._pages, "document.html", values)
        return Route(method="GET", path=link.url, handler=page.answer, auth=Auth.NONE, limit="none", anchor="")

    def _show(self, request: Request) -> Response:
        user_id, signature = request.query("u") or "", request.query("h") or ""
        if not user_id and not signature:
            return self._page(request, "", "", agreed=False)
        if not self._consent.is_genuine(user_id, signature):
            return self._refuse(request)
        return self._page(request, user_id, signature, agreed=self._consent.has_agreed(user_id))

    async def _agree(self, request: Request) -> Response:
        form = dict(parse_qsl(request.body.decode("utf-8", "replace"), max_num_fields=10))
        user_id, signature = form.get("u", ""), form.get("h", "")
        if self._is_cross_site(request) or not self._consent.is_genuine(user_id, signature):
            return self._refuse(request)
        await self._consent.agree(user_id)
        return self._page(request, user_id, signature, agreed=True, lang=form.get("lang"))

    def _is_cross_site(self, request: Request) -> bool:
        """A post from another site's page: browsers say so in Sec-Fetch-Site, older ones in Origin."""
        headers = request.exchange.headers
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site is not None:
            return site not in ("same-origin", "none")
        return origin is not None and origin != self._origin

    def _page(
        self, request: Request, user_id: str, signature: str, *, agreed: bool, lang: str | None = None
    ) -> Response:
        lang = lang if lang in pages.LANGUAGES else pages.language(request)
        own = self._consent.link(user_id) if user_id else PATH
        return self._pages.page(
            request, "terms.html", lang=lang, texts=[texts[lang] for texts in self._documents.values()], agreed=agreed,
            user_id=user_id, signature=signature, action=PATH, version=self._version, links=pages.own_links(own),
        )  # fmt: skip

    def _refuse(self, request: Request) -> Response:
        fields = {name: value for name in ("u", "h") if (value := request.query(name)) is not None}
        german = pages.language(request) == "de"
        return self._pages.page(
            request,
            "message.html",
            status=403,
            links=pages.own_links(f"{PATH}?{urlencode(fields)}"),
            heading="Dieser Link gilt nicht" if german else "This link is not valid",
            sentence=(
                "Der Link ist unvollständig, gehört zu einer älteren Fassung oder wurde auf einer fremden Seite benutzt. "
                "Bitte öffnen Sie den neuesten Link aus Ihrem Raum „Server Notices“."
                if german
                else "The link is incomplete, belongs to an older version, or was used on a foreign page. "
                "Please open the newest link in your room “Server Notices”."
            ),
        )


@implementer(IPlugin, IExtension)
class _Extension:
    """The terms of use: people agree on a page of this server before they create rooms or chat."""

    name = "terms_consent"
    options = (
        Option("version", text, "1", "The version of the terms; when it changes, everybody is asked again."),
        Option(
            "documents",
            path,
            None,
            "Folder with de.md and en.md: the terms in Markdown. The privacy notice stands there too, or in privacy.de.md and "
            "privacy.en.md.",
            "without it an example text is shown, which is not fit for real use",
        ),
        Option("administrator", text, "administrator", "Localpart of the account that writes server notices."),
    )

    @staticmethod
    def build(settings: Settings, host: Any) -> TermsConsent:
        """Read the documents."""
        return TermsConsent(settings.version, _read(settings.documents), settings.administrator)


#: Where the documents can be read by everybody.
_LINKS = {
    "terms": pages.Link("Nutzungsbedingungen", "Terms of use", "/terms"),
    "privacy": pages.Link("Datenschutzhinweise", "Privacy notice", "/privacy"),
}


def _read(folder: Path | None) -> dict[str, dict[str, str]]:
    """The documents by kind and language; those on privacy may be missing."""
    source: Any = folder or files("heichat_appliance.plugins") / "terms"
    try:
        found = {"terms": {lang: (source / f"{lang}.md").read_text("utf-8") for lang in pages.LANGUAGES}}
        if any((source / f"privacy.{lang}.md").is_file() for lang in pages.LANGUAGES):
            found["privacy"] = {lang: (source / f"privacy.{lang}.md").read_text("utf-8") for lang in pages.LANGUAGES}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigErrors(
            [f"[terms_consent] documents: {error} (hint: the folder needs de.md and en.md in UTF-8; a privacy notice of "
             "its own needs privacy.de.md and privacy.en.md)"]
        )  # fmt: skip
    return found


extension = _Extension()
