"""Setting pushers (client-server API "Push notifications")."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import orjson
from twisted.internet.defer import Deferred

from heichat_appliance.clock import Clock
from heichat_appliance.db.engine import Engine, Transaction
from heichat_appliance.errors import forbidden, invalid_param
from heichat_appliance.outgoing import is_public
from heichat_appliance.store import pushers as store
from heichat_appliance.store.pushers import Description, Pusher

#: Pushers of one person.
MAX_PUSHERS = 50
#: The most bytes of `data` as JSON.
MAX_DATA = 8 * 1024
_PATH = "/_matrix/push/v1/notify"


class Pushers:
    """Reads and changes people's pushers."""

    def __init__(
        self, engine: Engine, clock: Clock, *, allow_private: bool, changed: Callable[[list[str]], None]
    ) -> None:
        """`allow_private`: gateways in private networks and without TLS; `changed` hears whose pushers were changed."""
        self._engine = engine
        self._clock = clock
        self._allow_private = allow_private
        self._changed = changed

    def of_user(self, user_id: str) -> list[Pusher]:
        """A person's pushers."""
        return store.of_user(self._engine.read, user_id)

    def set(self, user_id: str, device_id: str, description: Description, *, append: bool) -> Deferred[None]:
        """Make or change the pusher for this app and pushkey. Without `append` those of other people for it go.

        `description.data` is of `check_data`. 403 M_FORBIDDEN if the person has too many.
        """

        def job(tx: Transaction) -> list[str]:
            store.put(tx, user_id, device_id, description, self._clock.now_ms())
            if len(store.of_user(tx.execute, user_id)) > MAX_PUSHERS:
                raise forbidden(f"you have {MAX_PUSHERS} pushers already; delete one first")
            others = [] if append else store.delete_of_others(tx, user_id, description.app_id, description.pushkey)
            return [user_id, *others]

        return self._engine.write(job).addCallback(self._changed)

    def delete(self, user_id: str, app_id: str, pushkey: str) -> Deferred[None]:
        """Delete a pusher, if there is one."""

        def job(tx: Transaction) -> list[str]:
            store.delete(tx, user_id, app_id, pushkey)
            return [user_id]

        return self._engine.write(job).addCallback(self._changed)

    def check_data(self, data: dict[str, Any]) -> str:
        """A pusher's `data` as JSON; 400 M_INVALID_PARAM if its `url` is not that of a push gateway, or it is too long."""
        self._check_url(data.get("url"))
        try:
            text = orjson.dumps(data).decode()
        except TypeError:
            raise invalid_param("data must not have numbers of more than 64 bits") from None
        if len(text) > MAX_DATA:
            raise invalid_param(f"data must not have more than {MAX_DATA} bytes")
        return text

    def _check_url(self, url: object) -> None:
        schemes = ("https", "http") if self._allow_private else ("https",)
        wanted = invalid_param(f"data.url must be a URL such as https://push.example.org{_PATH}")
        if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url or len(url) > 2048:
            raise wanted
        try:
            parts = urlsplit(url)
            good = parts.scheme in schemes and bool(parts.hostname) and parts.path == _PATH and parts.port != 0
        except ValueError:
            raise wanted from None
        if not good or "@" in parts.netloc or parts.query or parts.fragment:
            raise wanted
        if not self._allow_private and _is_private_literal(parts.hostname or ""):
            raise invalid_param("data.url must not name an address in a private network")


def _is_private_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return not is_public(host)
