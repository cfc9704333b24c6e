"""What this server can do: versions, capabilities, discovery (spec, "Server Discovery", "Capabilities negotiation")."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from heichat_appliance.errors import not_found
from heichat_appliance.http.routing import Auth, Gate, Request, Response, Route, spec_anchor
from heichat_appliance.protocol.roomversions import DEFAULT, ROOM_VERSIONS
from heichat_appliance.services.accounts import Accounts

VERSIONS = tuple(f"v1.{minor}" for minor in range(1, 20))

#: What clients switch on by name. Only what really works here stands in this list.
UNSTABLE_FEATURES: dict[str, bool] = {
    "org.matrix.simplified_msc3575": True,  # sliding sync: Element X can't do without
    "org.matrix.e2e_cross_signing": True,  # Element sets up cross-signing at the first login only with this
}


def capabilities(*, is_admin: bool, display_name_is_free: bool) -> dict[str, Any]:
    """The capabilities of one person."""
    profile_fields: dict[str, Any] = {"enabled": True}
    if not display_name_is_free:
        profile_fields["disallowed"] = ["displayname"]
    found: dict[str, Any] = {
        "m.change_password": {"enabled": False},
        "m.3pid_changes": {"enabled": False},
        "m.get_login_token": {"enabled": False},
        "m.forget_forced_upon_leave": {"enabled": False},
        "m.set_displayname": {"enabled": display_name_is_free},
        "m.set_avatar_url": {"enabled": True},
        "m.profile_fields": profile_fields,
        "m.room_versions": {"default": DEFAULT, "available": dict.fromkeys(ROOM_VERSIONS, "stable")},
    }
    if is_admin:
        found["m.account_moderation"] = {"suspend": True, "lock": True}
    return found


def routes(
    accounts: Accounts,
    *,
    public_url: str,
    display_name_is_free: bool,
    support_email: str | None = None,
    well_known: Mapping[str, Any] | None = None,
) -> list[Route]:
    """The operations of this chapter. `well_known`: further keys of /.well-known/matrix/client."""
    versions = _constant({"versions": VERSIONS, "unstable_features": UNSTABLE_FEATURES})
    client = _constant({"m.homeserver": {"base_url": public_url}, **(well_known or {})})
    contacts = _constant({"contacts": [{"email_address": support_email, "role": "m.role.admin"}]})

    def support(request: Request) -> Any:
        if support_email is None:
            raise not_found("this server names no contact")
        return contacts(request)

    def get_capabilities(request: Request) -> Any:
        is_admin = accounts.is_admin(request.user_id)
        return {"capabilities": capabilities(is_admin=is_admin, display_name_is_free=display_name_is_free)}

    return [
        _row("/_matrix/client/versions", versions, Auth.OPTIONAL, "none"),
        _row("/_matrix/client/v3/capabilities", get_capabilities, Auth.USER, "read"),
        _row("/.well-known/matrix/client", client, Auth.NONE, "none"),
        _row("/.well-known/matrix/support", support, Auth.NONE, "none"),
    ]


def element_discovery(conference_url: str | None, *, relayed_calls: bool, encryption_default: str) -> dict[str, Any]:
    """What Element reads in /.well-known/matrix/client besides the specification's keys.

    Source: element-web, docs of `io.element.jitsi`, `io.element.voip` and `io.element.e2ee`. The button for a conference
    in a room opens the Jitsi Meet server of `preferredDomain` (the older key is for older apps); with a relay of our own
    nobody's address is told to the public STUN server that Element falls back to otherwise. `encryption_default`: off,
    direct or on, see `element_encryption`. Only with `org.matrix.msc3814` Element makes dehydrated devices, which receive
    keys while their person is logged in nowhere.
    """
    found: dict[str, Any] = {"io.element.e2ee": element_encryption(encryption_default), "org.matrix.msc3814": True}
    if conference_url:
        jitsi = {"preferredDomain": urlsplit(conference_url).netloc}
        found |= {"io.element.jitsi": jitsi, "im.vector.riot.jitsi": jitsi}
    if relayed_calls:
        found["io.element.voip"] = {"disable_fallback_ice": True}
    return found


def element_encryption(encryption_default: str) -> dict[str, Any]:
    """The value of `io.element.e2ee` for [rooms] encryption_default.

    Element takes `default`, and true where it is missing, for direct chats and for the switch in its dialogue for private
    rooms alike. So it can't say "direct": there Element is told false, and the server itself begins direct chats with
    encryption (services/rooms.py). Source: element-web, docs/e2ee.md.
    """
    return {"default": encryption_default == "on"}


def _constant(value: dict[str, Any]) -> Callable[[Request], Response]:
    response = Response(body=orjson.dumps(value))
    return lambda request: response


def _row(path: str, handler: Callable[[Request], Any], auth: Auth, limit: str) -> Route:
    anchor = spec_anchor("GET", path)
    return Route(method="GET", path=path, handler=handler, auth=auth, limit=limit, gates=Gate.READS, anchor=anchor)
