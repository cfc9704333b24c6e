"""The operations of the server, each with a request that succeeds (or is refused as planned) and its answer's schema.

The rows are done in this order, in the world of test_answers.py. `"<name>"` stands for what the world knows by that
name; parameters of the path are looked up there by their own names unless a row gives others. The schemas follow the
responses of the client-server API, v1.19; `answer_matcher.py` says how to read them.
"""

# fmt: off

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from tests.http.answer_matcher import ABSENT


@dataclass(frozen=True)
class Row:
    """`route`: method and template, without `/_matrix/client/`; `schema`: of the JSON, or a str: the Content-Type of
    what is no JSON; `by`: who asks, None for nobody; `raw`: the name of bytes to send, of `content_type`; `params`: of
    the path."""

    route: str
    schema: Any
    body: Any = None
    by: str | None = "alice"
    status: int = 200
    query: dict[str, str] = field(default_factory=dict)
    raw: str | None = None
    content_type: str = "application/json"
    params: dict[str, str] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """GET, PUT, POST or DELETE."""
        return self.route.split()[0]

    @property
    def path(self) -> str:
        """The template as the route table has it."""
        path = self.route.split()[1]
        return path if path.startswith("/") else f"/_matrix/client/{path}"


# -- shared schemas ----------------------------------------------------------------------------------------------

ROOM_ID, USER_ID, EVENT_ID = re.compile(r"!\S+"), re.compile(r"@[a-z]+:chat\.test"), re.compile(r"\$\S+")
ALIAS, MXC, TOKEN = re.compile(r"#\S+:chat\.test"), re.compile(r"mxc://chat\.test/\S+"), re.compile(r"\S+")
NOTHING: dict[str, Any] = {}
OF_ROOM = {"room_id": ROOM_ID}
SENT = {"event_id": EVENT_ID}

UNSIGNED = {"age?": int, "membership?": {"join", "invite", "leave", "ban", "knock"}, "prev_content?": dict,
            "redacted_because?": dict, "replaces_state?": EVENT_ID, "transaction_id?": str}
#: of /sync, where the place says the room
SYNC_EVENT = {"event_id": EVENT_ID, "type": str, "sender": USER_ID, "origin_server_ts": int, "content": dict,
              "state_key?": str, "unsigned?": UNSIGNED, "room_id": ABSENT}
EVENT = {**SYNC_EVENT, "room_id": ROOM_ID}
STATE_EVENT = {**EVENT, "state_key": str}
MEMBER_EVENT = {**STATE_EVENT, "type": {"m.room.member"}, "content": {"membership": str, "displayname?": str}}
STRIPPED = {"type": str, "state_key": str, "sender": USER_ID, "content": dict, "room_id": ABSENT}
#: account data, receipts, typing
BARE = {"type": str, "content": dict, "event_id": ABSENT}
TO_DEVICE = {"type": str, "sender": USER_ID, "content": dict}
PRESENCE = {"presence": {"online", "offline", "unavailable"}, "last_active_ago?": int, "status_msg?": str,
            "currently_active?": bool}
CHUNK = {"chunk": [EVENT], "next_batch?": TOKEN, "prev_batch?": TOKEN}

SIGNATURES = {"*": {"*": str}}
DEVICE_KEYS = {"user_id": USER_ID, "device_id": str, "algorithms": [str], "keys": {"*": str}, "signatures": SIGNATURES,
               "unsigned?": {"device_display_name?": str}}
CROSS_KEY = {"user_id": USER_ID, "usage": [{"master", "self_signing", "user_signing"}], "keys": {"*": str},
             "signatures?": SIGNATURES}
SIGNED_KEY = {"key": str, "signatures": SIGNATURES, "fallback?": bool}
BACKUP = {"algorithm": str, "auth_data": dict, "count": int, "etag": str, "version": str}
BACKUP_KEY = {"first_message_index": int, "forwarded_count": int, "is_verified": bool, "session_data": {"*": str}}
BACKUP_STATE = {"etag": str, "count": int}

DEVICE = {"device_id": str, "display_name?": str, "last_seen_ip?": str, "last_seen_ts?": int}
ACTIONS = [(str, {"set_tweak": str}), ...]
RULE = {"rule_id": str, "default": bool, "enabled": bool, "actions": ACTIONS, "pattern?": str,
        "conditions?": [{"kind": str, "key?": str, "pattern?": str, "is?": str}, ...]}
RULES = {"override": [RULE], "content": [RULE], "underride": [RULE], "room": [RULE, ...], "sender": [RULE, ...]}
PUSHER = {"pushkey": str, "kind": {"http", "email"}, "app_id": str, "app_display_name": str, "device_display_name": str,
          "lang": str, "data": {"url?": str, "format?": str}, "profile_tag?": str}
LOGIN = {"user_id": USER_ID, "access_token": TOKEN, "device_id": str, "refresh_token?": TOKEN, "expires_in_ms?": int,
         "well_known?": {"m.homeserver": {"base_url": str}}}
PUBLIC_ROOM = {"room_id": ROOM_ID, "num_joined_members": int, "world_readable": {False}, "guest_can_join": {False},
               "join_rule?": {"invite", "knock", "restricted", "knock_restricted"}, "name?": str, "topic?": str,
               "avatar_url?": MXC, "canonical_alias?": ALIAS, "room_type?": str, "room_version?": str,
               "encryption?": str,
               "allowed_room_ids?": [ROOM_ID]}
PUBLIC_ROOMS = {"chunk": [PUBLIC_ROOM, ...], "total_room_count_estimate?": int, "next_batch?": TOKEN,
                "prev_batch?": TOKEN}

COUNTS = {"notification_count": int, "highlight_count": int}
TIMELINE = {"events": [SYNC_EVENT], "limited?": bool, "prev_batch?": TOKEN}
STATE = {"events": [{**SYNC_EVENT, "state_key": str}, ...]}
JOINED = {"timeline": TIMELINE, "state?": STATE, "ephemeral?": {"events": [BARE, ...]},
          "account_data?": {"events": [BARE, ...]},
          "summary?": {"m.heroes?": [USER_ID], "m.joined_member_count?": int, "m.invited_member_count?": int},
          "unread_notifications?": COUNTS, "unread_thread_notifications?": {"*?": COUNTS}}
INVITED, KNOCKED = {"invite_state": {"events": [STRIPPED]}}, {"knock_state": {"events": [STRIPPED]}}
LEFT = {"timeline": TIMELINE, "state?": STATE, "account_data?": {"events": [BARE, ...]}}
SYNC_ROOMS = {"join?": {"*?": JOINED}, "invite?": {"*?": INVITED}, "knock?": {"*?": KNOCKED}, "leave?": {"*?": LEFT}}
SYNC = {"next_batch": TOKEN, "rooms": SYNC_ROOMS, "account_data?": {"events": [BARE, ...]},
        "to_device?": {"events": [TO_DEVICE, ...]},
        "presence?": {"events": [{**BARE, "sender": USER_ID, "content": PRESENCE}, ...]},
        "device_lists?": {"changed?": [USER_ID, ...], "left?": [USER_ID, ...]},
        "device_one_time_keys_count": {"signed_curve25519?": int}, "device_unused_fallback_key_types": [str, ...]}
FIRST_SYNC = {**SYNC, "account_data": {"events": [BARE]}, "to_device": {"events": [TO_DEVICE]},
              "rooms": {"join": {"*": {**JOINED, "state": STATE, "unread_notifications": COUNTS}},
                        "invite": {"*": INVITED}}}
LATER_SYNC = {**SYNC, "device_lists": {"changed": [USER_ID], "left?": [USER_ID, ...]}}
SLIDING = {"pos": TOKEN,
           "lists": {"all": {"count": int, "ops?": [{"op": {"SYNC"}, "range": [int], "room_ids": [ROOM_ID]}]}},
           "rooms": {"*": {"initial": {True}, "timeline?": [SYNC_EVENT], "required_state?": [SYNC_EVENT, ...],
                           "invite_state?": [STRIPPED], "name?": str, "heroes?": [{"user_id": USER_ID}],
                           "bump_stamp": int, "joined_count?": int, "num_live?": int}},
           "extensions": {"e2ee": {"device_one_time_keys_count": {"*?": int},
                                   "device_unused_fallback_key_types": [str, ...]},
                          "to_device": {"next_batch": TOKEN, "events?": [TO_DEVICE]},
                          "account_data": {"global": [BARE], "rooms?": {"*?": [BARE]}}}}


def error(errcode: str) -> dict[str, Any]:
    """An error with a sentence."""
    return {"errcode": {errcode}, "error": str}


def row(route: str, schema: Any, body: Any = None, **more: Any) -> Row:
    """A row; keywords that a Row does not have are parameters of the path."""
    known = {name: more.pop(name) for name in ("by", "status", "query", "raw", "content_type") if name in more}
    return Row(route, schema, body, params=more, **known)


def refused(status: int, errcode: str, *operations: str, **more: Any) -> list[Row]:
    """Operations that do not apply here."""
    return [row(op, error(errcode), None if op.startswith("GET") else {}, status=status, **more) for op in operations]


PASSWORD = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"}, "password": "alice-demo"}
NEW_BACKUP = {"algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": {"public_key": "abc"}}
MEDIA = "/_matrix/media"
DRY = "unstable/org.matrix.msc3814.v1/dehydrated_device"

# -- the table ---------------------------------------------------------------------------------------------------

DISCOVERY = [
    row("GET versions", {"versions": [re.compile(r"v1\.\d+")], "unstable_features": {"*": bool}}, by=None),
    row("GET /.well-known/matrix/client", {"m.homeserver": {"base_url": str}}, by=None),
    row("GET /.well-known/matrix/support", {"contacts": [{"email_address": str, "role": str}], "support_page?": str},
        by=None),
    row("GET v3/capabilities", {"capabilities": {
        "m.change_password": {"enabled": bool}, "m.3pid_changes": {"enabled": bool},
        "m.get_login_token": {"enabled": bool},
        "m.set_displayname": {"enabled": bool}, "m.set_avatar_url": {"enabled": bool},
        "m.room_versions": {"default": str, "available": {"*": {"stable", "unstable"}}},
        "m.profile_fields": {"enabled": bool, "allowed?": [str], "disallowed?": [str]},
        "m.account_moderation": ABSENT}}),
    row("GET v3/capabilities", {"capabilities": {"m.account_moderation": {"suspend": bool, "lock": bool}}}, by="admin"),
]

PAGES = [
    row("GET /", "text/html", by=None),
    row("GET /_heichat/style.css", "text/css", by=None),
    row("GET /_heichat/page.js", "text/javascript", by=None),
    row("GET /_heichat/icon.svg", "image/svg+xml", by=None),
    row("GET /element", "text/plain", by=None, status=308),
    row("GET /element/{path*}", "text/html", by=None, status=404),
    row("GET /terms", "text/html", by=None),
    row("GET /privacy", "text/html", by=None),
    row("GET /try", "text/plain", by=None, status=308),
    row("GET /try/", "text/html", by=None),
    row("GET /try/{name}", "text/javascript", by=None, name="main.js"),
    row("GET /try/about.json", {"brand": str, "server_name": {"chat.test"},
        "people": [{"uni_id": str, "name": str, "role": str, "password": str}]}, by=None),
    row("GET /_heichat/consent", "text/html", by=None, query={"u": "<alice>", "h": "<signature>"}),
    row("POST /_heichat/consent", "text/html", by=None, raw="consent",
        content_type="application/x-www-form-urlencoded"),
]

ACCOUNT = [
    row("GET v3/login", {"flows": [{"type": {"m.login.password"}}]}, by=None),
    row("POST v3/login", LOGIN, PASSWORD, by=None),
    row("POST v3/login", {**LOGIN, "refresh_token": TOKEN, "expires_in_ms": int}, {**PASSWORD, "refresh_token": True},
        by=None),
    row("POST v3/refresh", {"access_token": TOKEN, "refresh_token?": TOKEN, "expires_in_ms?": int},
        {"refresh_token": "<refresh_token>"}, by=None),
    row("GET v3/account/whoami", {"user_id": USER_ID, "device_id": str, "is_guest?": {False}}),
    row("GET v3/account/3pid", {"threepids": list}),
    row("GET v3/devices", {"devices": [DEVICE]}),
    row("GET v3/devices/{deviceId}", DEVICE),
    row("PUT v3/devices/{deviceId}", NOTHING, {"display_name": "Phone"}),
    row("DELETE v3/devices/{deviceId}", {"flows": [{"stages": [str]}], "params": dict, "session": str}, {}, status=401,
        deviceId="SECOND"),
    row("DELETE v3/devices/{deviceId}", NOTHING, {"auth": PASSWORD}, deviceId="SECOND"),
    row("POST v3/delete_devices", NOTHING, {"devices": ["THIRD"], "auth": PASSWORD}),
    row("GET v3/admin/whois/{userId}", {"user_id": USER_ID, "devices": {"*": {"sessions": [{"connections": [
        {"ip?": str, "last_seen?": int, "user_agent?": str}, ...]}]}}}, by="admin"),
    *(row(f"{method} v1/admin/{what}/{{userId}}", {flag: {value}}, body, by="admin", userId="<bob>")
      for what, flag in (("suspend", "suspended"), ("lock", "locked"))
      for method, value, body in (("PUT", True, {flag: True}), ("GET", True, None), ("PUT", False, {flag: False}))),
    row("GET v3/voip/turnServer", {"username": re.compile(r"\d+:@alice:chat\.test"), "password": TOKEN, "ttl": int,
                                   "uris": [re.compile(r"turn:chat\.test:\d+\?transport=(udp|tcp)")]}),
    row("POST v3/user/{userId}/openid/request_token",
        {"access_token": TOKEN, "token_type": {"Bearer"}, "matrix_server_name": str, "expires_in": int}, {}),
    row("GET /_matrix/federation/v1/openid/userinfo", {"sub": USER_ID}, by=None, query={"access_token": "<openid>"}),
]

SYNCING = [
    row("GET v3/sync", FIRST_SYNC, by="bob", query={"set_presence": "offline"}),
    row("GET v3/sync", LATER_SYNC, by="bob", query={"since": "<since>"}),
    row("POST unstable/org.matrix.simplified_msc3575/sync", SLIDING, {
        "lists": {"all": {"ranges": [[0, 9]], "timeline_limit": 5,
                          "required_state": [["m.room.name", ""], ["m.room.member", "$LAZY"]]}},
        "extensions": {name: {"enabled": True} for name in ("e2ee", "to_device", "account_data")}}, by="bob"),
    row("POST v3/user/{userId}/filter", {"filter_id": re.compile(r"[^{].*")}, {"room": {"timeline": {"limit": 5}}}),
    row("GET v3/user/{userId}/filter/{filterId}", {"room": {"timeline": {"limit": {7}}}}),
    row("GET v3/rooms/{roomId}/initialSync", {
        "room_id": ROOM_ID, "membership": {"join"}, "messages": {"chunk": [EVENT], "end": TOKEN, "start?": TOKEN},
        "state": [STATE_EVENT], "visibility?": {"private"}, "account_data?": [BARE, ...]}),
]

READING = [
    row("GET v3/rooms/{roomId}/messages", {"start": TOKEN, "end?": TOKEN, "chunk": [EVENT], "state?": [STATE_EVENT]},
        query={"dir": "b"}),
    row("GET v3/rooms/{roomId}/event/{eventId}", EVENT),
    row("GET v3/rooms/{roomId}/context/{eventId}", {
        "event": EVENT, "events_before": [EVENT], "events_after": [EVENT], "state": [STATE_EVENT], "start": TOKEN,
        "end": TOKEN}),
    row("GET v1/rooms/{roomId}/timestamp_to_event", {"event_id": EVENT_ID, "origin_server_ts": int},
        query={"ts": "1", "dir": "f"}),
    row("GET v3/rooms/{roomId}/state", [STATE_EVENT]),
    row("GET v3/rooms/{roomId}/state/{eventType}/{stateKey}", {"name": str}, eventType="m.room.name"),
    row("GET v3/rooms/{roomId}/state/{eventType}/{stateKey}", STATE_EVENT, eventType="m.room.name",
        query={"format": "event"}),
    row("GET v3/rooms/{roomId}/members", {"chunk": [MEMBER_EVENT]}),
    row("GET v3/rooms/{roomId}/joined_members", {"joined": {"*": {"display_name?": str, "avatar_url?": MXC}}}),
    row("GET v3/rooms/{roomId}/aliases", {"aliases": [ALIAS]}),
    row("GET v1/rooms/{roomId}/relations/{eventId}", CHUNK),
    row("GET v1/rooms/{roomId}/relations/{eventId}", {**CHUNK, "recursion_depth": int}, query={"recurse": "true"}),
    row("GET v1/rooms/{roomId}/relations/{eventId}/{relType}", CHUNK),
    row("GET v1/rooms/{roomId}/relations/{eventId}/{relType}/{eventType}", CHUNK),
    row("GET v1/rooms/{roomId}/threads", {"chunk": [{**EVENT, "unsigned": {"m.relations": {"m.thread": {
        "latest_event": EVENT, "count": int, "current_user_participated": bool}}}}], "next_batch?": TOKEN}),
    row("POST v3/search", {"search_categories": {"room_events": {
        "count": int, "highlights": [str], "next_batch?": TOKEN,
        "results": [{"rank?": (int, float), "result": EVENT, "context": {
            "events_before": [EVENT, ...], "events_after": [EVENT, ...], "start?": TOKEN, "end?": TOKEN,
            "profile_info": {"*": {"displayname?": str}}}}],
        "groups": {"room_id": {"*": {"order": int, "results": [EVENT_ID], "next_batch?": TOKEN}}}}}},
        {"search_categories": {"room_events": {"search_term": "hello", "event_context": {"include_profile": True},
                                               "groupings": {"group_by": [{"key": "room_id"}]}}}}),
    row("GET v3/notifications", {"notifications": [{
        "actions": ACTIONS, "event": SYNC_EVENT, "read": bool, "room_id": ROOM_ID, "ts": int, "profile_tag?": str}],
        "next_token?": TOKEN}, by="bob"),
    row("GET v1/room_summary/{roomIdOrAlias}", {**PUBLIC_ROOM, "membership": {"join"}, "room_version": str}),
    row("GET v1/rooms/{roomId}/hierarchy", {"next_batch?": TOKEN, "rooms": [{**PUBLIC_ROOM, "children_state": [
        {**STRIPPED, "type": {"m.space.child"}, "origin_server_ts": int}, ...]}]}, roomId="<space>"),
    row("GET v1/mutual_rooms", {"joined": [ROOM_ID], "count": int, "next_batch?": TOKEN}, query={"user_id": "<bob>"}),
    row("GET v3/joined_rooms", {"joined_rooms": [ROOM_ID]}),
]

ROOMS = [
    row("POST v3/createRoom", OF_ROOM, {"name": "New", "preset": "private_chat", "invite": ["<bob>"]}),
    row("PUT v3/rooms/{roomId}/send/{eventType}/{txnId}", SENT, {"msgtype": "m.text", "body": "more"}),
    row("PUT v3/rooms/{roomId}/redact/{eventId}/{txnId}", SENT, {"reason": "wrong"}, eventId="<victim>"),
    row("GET v3/rooms/{roomId}/event/{eventId}",
        {**EVENT, "content": NOTHING, "unsigned": {"redacted_because": EVENT}}, eventId="<victim>"),
    row("PUT v3/rooms/{roomId}/state/{eventType}/{stateKey}", SENT, {"topic": "News"}, eventType="m.room.topic"),
    row("POST v3/rooms/{roomId}/invite", NOTHING, {"user_id": "<bob>"}, roomId="<side>"),
    row("POST v3/rooms/{roomId}/join", OF_ROOM, {}, by="bob", roomId="<side>"),
    row("POST v3/rooms/{roomId}/leave", NOTHING, {}, by="bob", roomId="<side>"),
    row("POST v3/rooms/{roomId}/forget", NOTHING, {}, by="bob", roomId="<side>"),
    row("POST v3/join/{roomIdOrAlias}", OF_ROOM, {}, by="bob", roomIdOrAlias="<second>"),
    row("POST v3/rooms/{roomId}/kick", NOTHING, {"user_id": "<bob>", "reason": "enough"}, roomId="<second>"),
    row("POST v3/rooms/{roomId}/ban", NOTHING, {"user_id": "<bob>"}, roomId="<second>"),
    row("POST v3/rooms/{roomId}/unban", NOTHING, {"user_id": "<bob>"}, roomId="<second>"),
    row("POST v3/knock/{roomIdOrAlias}", OF_ROOM, {"reason": "please"}, by="bob", roomIdOrAlias="<door>"),
    row("POST v3/rooms/{roomId}/upgrade", {"replacement_room": ROOM_ID}, {"new_version": "12"}, roomId="<second>"),
    row("GET v3/sync", {**SYNC, "rooms": {**SYNC_ROOMS, "knock": {"*": KNOCKED}, "leave": {"*": LEFT}}}, by="bob",
        query={"since": "<until>"}),
    row("POST v3/rooms/{roomId}/report", NOTHING, {"reason": "spam"}, by="bob"),
    row("POST v3/rooms/{roomId}/report/{eventId}", NOTHING, {"reason": "spam"}, by="bob"),
    row("POST v3/users/{userId}/report", NOTHING, {"reason": "spam"}, by="bob"),
    row("PUT v3/directory/room/{roomAlias}", NOTHING, {"room_id": "<room>"}, roomAlias="#new:chat.test"),
    row("GET v3/directory/room/{roomAlias}", {"room_id": ROOM_ID, "servers": [str]}),
    row("DELETE v3/directory/room/{roomAlias}", NOTHING, roomAlias="#new:chat.test"),
    row("GET v3/directory/list/room/{roomId}", {"visibility": {"private"}}),
    row("PUT v3/directory/list/room/{roomId}", NOTHING, {"visibility": "private"}),
    row("PUT v3/directory/list/room/{roomId}", error("M_FORBIDDEN"), {"visibility": "public"}, status=403),
    row("GET v3/publicRooms", PUBLIC_ROOMS),
    row("POST v3/publicRooms", PUBLIC_ROOMS, {"filter": {"generic_search_term": "room"}}),
    row("PUT v3/rooms/{roomId}/typing/{userId}", NOTHING, {"typing": True, "timeout": 1000}),
    row("POST v3/rooms/{roomId}/receipt/{receiptType}/{eventId}", NOTHING, {}),
    row("POST v3/rooms/{roomId}/read_markers", NOTHING, {"m.fully_read": "<event>", "m.read": "<event>"}),
]

PERSON = [
    row("PUT v3/presence/{userId}/status", NOTHING, {"presence": "online", "status_msg": "here"}),
    row("GET v3/presence/{userId}/status", PRESENCE),
    row("PUT v3/profile/{userId}/{keyName}", NOTHING, {"avatar_url": "mxc://chat.test/face"}),
    row("GET v3/profile/{userId}/{keyName}", {"avatar_url": MXC}),
    row("GET v3/profile/{userId}", {"displayname": str, "avatar_url": MXC, "m.tz?": str}),
    row("DELETE v3/profile/{userId}/{keyName}", NOTHING),
    row("POST v3/user_directory/search",
        {"limited": bool, "results": [{"user_id": USER_ID, "display_name?": str, "avatar_url?": MXC}]},
        {"search_term": "bob"}),
    row("PUT v3/user/{userId}/account_data/{type}", NOTHING, {"x": 1}),
    row("GET v3/user/{userId}/account_data/{type}", {"x": int}),
    row("PUT v3/user/{userId}/rooms/{roomId}/account_data/{type}", NOTHING, {"x": 1}),
    row("GET v3/user/{userId}/rooms/{roomId}/account_data/{type}", {"x": int}),
    row("PUT v3/user/{userId}/rooms/{roomId}/tags/{tag}", NOTHING, {"order": 0.5}),
    row("GET v3/user/{userId}/rooms/{roomId}/tags", {"tags": {"*": {"order?": (int, float)}}}),
    row("DELETE v3/user/{userId}/rooms/{roomId}/tags/{tag}", NOTHING),
    row("PUT v3/pushrules/global/{kind}/{ruleId}", NOTHING,
        {"actions": ["notify", {"set_tweak": "highlight"}], "pattern": "word"}),
    row("GET v3/pushrules/global/{kind}/{ruleId}", {**RULE, "default": {False}, "pattern": str}),
    row("PUT v3/pushrules/global/{kind}/{ruleId}/enabled", NOTHING, {"enabled": False}),
    row("GET v3/pushrules/global/{kind}/{ruleId}/enabled", {"enabled": {False}}),
    row("PUT v3/pushrules/global/{kind}/{ruleId}/actions", NOTHING, {"actions": ["notify"]}),
    row("GET v3/pushrules/global/{kind}/{ruleId}/actions", {"actions": [(str, {"set_tweak": str})]}),
    row("GET v3/pushrules/", {"global": RULES}),
    row("GET v3/pushrules/global/", RULES),
    row("DELETE v3/pushrules/global/{kind}/{ruleId}", NOTHING),
    row("POST v3/pushers/set", NOTHING, {
        "kind": "http", "app_id": "org.test", "pushkey": "k", "app_display_name": "App", "device_display_name": "Phone",
        "lang": "de", "data": {"url": "https://push.example.org/_matrix/push/v1/notify"}}, by="admin"),
    row("GET v3/pushers", {"pushers": [PUSHER]}, by="admin"),
]

ENCRYPTION = [
    row("POST v3/keys/upload", {"one_time_key_counts": {"signed_curve25519": int}},
        {"one_time_keys": "<one_time_keys>"}),
    row("POST v3/keys/device_signing/upload", NOTHING, "<cross_signing>"),
    row("POST v3/keys/signatures/upload", {"failures": NOTHING}, {"<alice>": {"PHONE": "<signed_device>"}}),
    row("POST v3/keys/query", {
        "failures?": NOTHING, "device_keys": {"*": {"*": DEVICE_KEYS}}, "master_keys": {"*": CROSS_KEY},
        "self_signing_keys": {"*": CROSS_KEY},
        "user_signing_keys": {"*": CROSS_KEY}}, {"device_keys": {"<alice>": []}}),
    row("POST v3/keys/claim", {"failures?": NOTHING, "one_time_keys": {"*": {"*": {"*": SIGNED_KEY}}}},
        {"one_time_keys": {"<alice>": {"PHONE": "signed_curve25519"}}}, by="bob"),
    row("GET v3/keys/changes", {"changed": [USER_ID], "left": [USER_ID, ...]}, by="bob",
        query={"from": "<since>", "to": "<until>"}),
    row("PUT v3/sendToDevice/{eventType}/{txnId}", NOTHING, {"messages": {"<bob>": {"*": {"x": 1}}}}),
    row(f"PUT {DRY}", {"device_id": {"DRY"}}, "<dehydrated>"),
    row(f"GET {DRY}", {"device_id": {"DRY"}, "device_data": {"algorithm": str}}),
    row(f"POST {DRY}/{{device_id}}/events", {"events": [TO_DEVICE, ...], "next_batch?": TOKEN}, {}, device_id="DRY"),
    row(f"DELETE {DRY}", {"device_id": {"DRY"}}),
    row("POST v3/room_keys/version", {"version": str}, NEW_BACKUP),
    row("GET v3/room_keys/version", BACKUP),
    row("GET v3/room_keys/version/{version}", BACKUP),
    row("PUT v3/room_keys/version/{version}", NOTHING, NEW_BACKUP),
    *(row(f"{method} v3/room_keys/keys{path}", schema, body, query={"version": "1"})
      for path, schemas, body_of_put in (
          ("", {"rooms": {"*": {"sessions": {"*": BACKUP_KEY}}}},
           {"rooms": {"<room>": {"sessions": {"s": "<backup_key>"}}}}),
          ("/{roomId}", {"sessions": {"*": BACKUP_KEY}}, {"sessions": {"s": "<backup_key>"}}),
          ("/{roomId}/{sessionId}", BACKUP_KEY, "<backup_key>"))
      for method, schema, body in (("PUT", BACKUP_STATE, body_of_put), ("GET", schemas, None),
                                   ("DELETE", BACKUP_STATE, None))),
    row("DELETE v3/room_keys/version/{version}", NOTHING),
]

FILES = [
    row(f"POST {MEDIA}/v3/upload", {"content_uri": MXC}, raw="png", content_type="image/png"),
    row(f"POST {MEDIA}/v1/create", {"content_uri": MXC, "unused_expires_at": int}, {}),
    row(f"PUT {MEDIA}/v3/upload/{{serverName}}/{{mediaId}}", NOTHING, raw="png", content_type="image/png",
        mediaId="<announced>"),
    row("GET v1/media/config", {"m.upload.size": int}),
    row(f"GET {MEDIA}/v3/config", {"m.upload.size": int}),
    row("GET v1/media/download/{serverName}/{mediaId}", "image/png"),
    row("GET v1/media/download/{serverName}/{mediaId}/{fileName}", "image/png"),
    row("GET v1/media/thumbnail/{serverName}/{mediaId}", "image/",
        query={"width": "32", "height": "32", "method": "crop"}),
    *refused(404, "M_NOT_FOUND", *(f"GET {MEDIA}/v3/{path}" for path in (
        "download/{serverName}/{mediaId}", "download/{serverName}/{mediaId}/{fileName}",
        "thumbnail/{serverName}/{mediaId}"))),
]

#: what does not apply here, with the planned refusal
ABSENT_HERE = [
    *refused(403, "M_FORBIDDEN", *(f"POST v3/account/{what}" for what in (
        "password", "deactivate", "3pid", "3pid/add", "3pid/bind", "3pid/delete", "3pid/unbind"))),
    *refused(403, "M_FORBIDDEN", "POST v3/register", "GET v3/register/available",
             "GET v1/register/m.login.registration_token/validity", "POST v1/appservice/{appserviceId}/ping",
             "PUT v3/directory/list/appservice/{networkId}/{roomId}", "GET v3/events", "GET v1/media/preview_url",
             f"GET {MEDIA}/v3/preview_url", appserviceId="a", networkId="n"),
    *refused(403, "M_THREEPID_DENIED",
             *(f"POST v3/{what}/{medium}/requestToken" for what in ("register", "account/password")
                                         for medium in ("email", "msisdn"))),
    *refused(400, "M_THREEPID_MEDIUM_NOT_SUPPORTED",
             *(f"POST v3/account/3pid/{medium}/requestToken" for medium in ("email", "msisdn"))),
    *refused(400, "M_FORBIDDEN", "POST v1/login/get_token"),
    *refused(404, "M_NOT_FOUND", "GET v3/login/sso/redirect/{idpId}",
             "GET v3/events/{eventId}",
             "GET /.well-known/matrix/policy_server", *(f"GET v3/thirdparty/{what}" for what in (
                 "protocol/{protocol}", "location/{protocol}", "user/{protocol}", "location", "user")),
             protocol="p", idpId="i"),
    row("GET v3/thirdparty/protocols", NOTHING),
]

ENDING = [
    row("POST v3/logout", NOTHING, {}, by="leaver"),
    row("POST v3/logout/all", NOTHING, {}, by="admin"),
]

ROWS = (*DISCOVERY, *PAGES, *ACCOUNT, *SYNCING, *READING, *ROOMS, *PERSON, *ENCRYPTION, *FILES, *ABSENT_HERE, *ENDING)
