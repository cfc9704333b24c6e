"""Plugin `terms_consent`: nobody creates rooms or chats before agreeing to the terms of use.

At the first login the administrator account invites the person to a room "Server Notices", whose message holds a personal
link to the page with the terms; a new version asks again.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

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

    def __init__(self, version: str, texts: dict[str, str], administrator: str, brand: str) -> None:
        self._version = version
        self._texts = {language: pages.markdown(text) for language, text in texts.items()}
        self._administrator = administrator
        self._brand = brand
        self._consent: Consent = None  # type: ignore[assignment]  # made in connect()
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
            host.engine, host.clock, notices, version=self._version, public_url=public_url, brand=self._brand,
            key=load_key(host.data_dir),
        )  # fmt: skip
        host.login.every_login.append(self._consent.ask)

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
        """The page with the terms, and agreeing to them."""
        common: dict[str, Any] = {"path": PATH, "auth": Auth.NONE, "limit": "anonymous", "anchor": ""}
        return [
            Route(method="GET", handler=self._show, **common),
            Route(method="POST", handler=self._agree, body=bytes, max_body=4096, **common),
        ]

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
        separator = "&" if "?" in own else "?"
        return pages.page(
            request, "terms.html", lang=lang, brand=self._brand, text=self._texts[lang], agreed=agreed,
            user_id=user_id, signature=signature, action=PATH, version=self._version,
            links={language: f"{own}{separator}lang={language}" for language in pages.LANGUAGES},
        )  # fmt: skip

    def _refuse(self, request: Request) -> Response:
        german = pages.language(request) == "de"
        return pages.page(
            request,
            "message.html",
            status=403,
            brand=self._brand,
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
            "Folder with de.md and en.md: terms and privacy notice in Markdown.",
            "without it an example text is shown, which is not fit for real use",
        ),
        Option("administrator", text, "administrator", "Localpart of the account that writes server notices."),
    )

    @staticmethod
    def build(settings: Settings, host: Any) -> TermsConsent:
        """Read the documents."""
        texts = _read(settings.documents)
        return TermsConsent(settings.version, texts, settings.administrator, host.config["web"].brand)


def _read(folder: Path | None) -> dict[str, str]:
    source: Any = folder or files("heichat_appliance.plugins") / "terms"
    try:
        return {language: (source / f"{language}.md").read_text("utf-8") for language in pages.LANGUAGES}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigErrors([f"[terms_consent] documents: {error} (hint: the folder needs de.md and en.md in UTF-8)"])


extension = _Extension()
