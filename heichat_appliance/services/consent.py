"""The terms of use: who agreed to which version, the personal link to the page, and what is refused until then.

The link holds the user ID and an HMAC over it and the version, so it can't be forged, serves nobody else and no other
version. The key is a file of its own in the data folder.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64encode
from pathlib import Path
from urllib.parse import urlencode

from twisted.internet.defer import Deferred, succeed

from heichat_appliance.clock import Clock
from heichat_appliance.db.engine import Engine, Transaction
from heichat_appliance.errors import MatrixError
from heichat_appliance.services.notices import Notices
from heichat_appliance.store import consent as store

PATH = "/_heichat/consent"
#: People of whom it is remembered that they agreed.
MAX_REMEMBERED = 100_000


class Consent:
    """Agreement to one version of the terms."""

    def __init__(
        self, engine: Engine, clock: Clock, notices: Notices, *, version: str, public_url: str, brand: str, key: bytes
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._notices = notices
        self.version = version
        self._public_url = public_url
        self._brand = brand
        self._key = key
        self._agreed: set[str] = set()

    def has_agreed(self, user_id: str) -> bool:
        """Whether the person agreed to the present version."""
        if user_id in self._agreed or user_id == self._notices.administrator:
            return True
        if not store.has_agreed(self._engine.read, user_id, self.version):
            return False
        if len(self._agreed) >= MAX_REMEMBERED:
            self._agreed.clear()
        self._agreed.add(user_id)
        return True

    def require(self, user_id: str) -> None:
        """403 M_CONSENT_NOT_GIVEN with `consent_uri` unless the person agreed."""
        if not self.has_agreed(user_id):
            link = self.link(user_id)
            raise MatrixError(
                403,
                "M_CONSENT_NOT_GIVEN",
                f"Bitte stimmen Sie zuerst den Nutzungsbedingungen zu: {link} / "
                f"Please agree to the terms of use first: {link}",
                consent_uri=link,
            )

    def notice_room(self, user_id: str) -> str | None:
        """The person's room "Server Notices"."""
        known = store.notice_room(self._engine.read, user_id)
        return known[0] if known else None

    def ask(self, user_id: str) -> Deferred[None]:
        """Invite the person to their room of notices and send them the link, once for each version."""
        known = store.notice_room(self._engine.read, user_id)
        if self.has_agreed(user_id) or (known is not None and known[1] == self.version):
            return succeed(None)
        return self._engine.write(self._ask, user_id)

    def _ask(self, tx: Transaction, user_id: str) -> None:
        known = store.notice_room(tx.execute, user_id)
        if known is None or known[1] != self.version:
            self._notices.post(tx, user_id, self._message(self.link(user_id)), self.version)

    def _message(self, link: str) -> dict[str, str]:
        german = f"Willkommen bei {self._brand}! Bitte lesen Sie die Nutzungsbedingungen und Datenschutzhinweise"
        german_end = "und klicken Sie dort auf „Einverstanden“. Erst danach können Sie Räume anlegen und chatten."
        english = f"Welcome to {self._brand}! Please read the terms of use and the privacy notice"
        english_end = "and agree to them there. Only then can you create rooms and chat."
        anchor = f'<a href="{link}">{link}</a>'
        return {
            "body": f"{german}: {link} {german_end}\n\n{english}: {link} {english_end}",
            "format": "org.matrix.custom.html",
            "formatted_body": f"<p>{german}: {anchor} {german_end}</p><p>{english}: {anchor} {english_end}</p>",
        }

    # -- the link ------------------------------------------------------------------------------------------------

    def link(self, user_id: str) -> str:
        """The person's own link to the page with the terms."""
        return f"{self._public_url}{PATH}?{urlencode({'u': user_id, 'h': self.signature(user_id)})}"

    def signature(self, user_id: str) -> str:
        """What only this server can make for this person and the present version."""
        digest = hmac.digest(self._key, f"{user_id}\n{self.version}".encode(), "sha256")
        return urlsafe_b64encode(digest).rstrip(b"=").decode()

    def is_genuine(self, user_id: str, signature: str) -> bool:
        """Whether the link is the person's own, for the present version."""
        return hmac.compare_digest(self.signature(user_id).encode(), signature.encode())

    def agree(self, user_id: str) -> Deferred[None]:
        """The person agrees to the present version, now."""
        return self._engine.write(store.agree, user_id, self.version, self._clock.now_ms())


def load_key(data_dir: Path) -> bytes:
    """The key of the links (32 bytes in `consent.key`), made at the first start."""
    path = data_dir / "consent.key"
    if not path.exists():
        new = path.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_bytes(secrets.token_bytes(32))
        new.rename(path)
    return path.read_bytes()
