"""The body of a sliding sync request (MSC4186). Keys that are not known are ignored."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from heichat_appliance.errors import invalid_param

MAX_LISTS = 100
MAX_RANGES = 100
MAX_SUBSCRIPTIONS = 1_000
MAX_REQUIRED = 300
MAX_NAME_BYTES = 64

Index = Annotated[int, Meta(ge=0, le=2**53)]
Limit = Annotated[int, Meta(ge=0, le=1000)]
Text = Annotated[str, Meta(max_length=255)]


class Filters(Struct, frozen=True):
    """Which rooms a list shows; what is absent does not filter."""

    is_dm: bool | None = None
    is_encrypted: bool | None = None
    is_invite: bool | None = None
    room_types: list[str | None] | None = None
    not_room_types: list[str | None] | None = None
    tags: list[str] | None = None
    not_tags: list[str] | None = None
    spaces: list[str] | None = None
    room_name_like: str | None = None


class RoomConfig(Struct, frozen=True):
    """What is to be told of a room."""

    timeline_limit: Limit
    required_state: list[tuple[Text, Text]]


class List(RoomConfig, frozen=True):
    """A list of rooms, and the parts of it that are looked at."""

    ranges: list[tuple[Index, Index]] | None = None
    filters: Filters | None = None


class Extension(Struct, frozen=True):
    """An extension; `lists` and `rooms` narrow it to some of the rooms of the request."""

    enabled: bool | None = None
    lists: list[str] | None = None
    rooms: list[str] | None = None


class ToDevice(Struct, frozen=True):
    """The extension to_device."""

    enabled: bool | None = None
    since: str | None = None
    limit: Annotated[int, Meta(ge=0)] | None = None


class Extensions(Struct, frozen=True):
    """The extensions that this server has."""

    to_device: ToDevice = ToDevice()
    e2ee: Extension = Extension()
    account_data: Extension = Extension()
    receipts: Extension = Extension()
    typing: Extension = Extension()


class SlidingRequest(Struct, frozen=True):
    """The whole body."""

    conn_id: Annotated[str, Meta(max_length=64)] | None = None
    lists: dict[str, List] | None = None
    room_subscriptions: dict[Text, RoomConfig] | None = None
    extensions: Extensions | None = None

    def check(self) -> None:
        """400 M_INVALID_PARAM, naming the field, for what the types do not say."""
        lists, subscriptions = self.lists or {}, self.room_subscriptions or {}
        if len(lists) > MAX_LISTS:
            raise invalid_param(f"lists: at most {MAX_LISTS} are possible")
        if len(subscriptions) > MAX_SUBSCRIPTIONS:
            raise invalid_param(f"room_subscriptions: at most {MAX_SUBSCRIPTIONS} are possible")
        for name, one in lists.items():
            if len(name.encode()) > MAX_NAME_BYTES:
                raise invalid_param(f"lists: a name must not be longer than {MAX_NAME_BYTES} bytes")
            if len(one.ranges or ()) > MAX_RANGES:
                raise invalid_param(f"lists.{name}.ranges: at most {MAX_RANGES} are possible")
            if any(start > end for start, end in one.ranges or ()):
                raise invalid_param(f"lists.{name}.ranges: a range must not end before it starts")
        for place, config in (*lists.items(), *subscriptions.items()):
            if len(config.required_state) > MAX_REQUIRED:
                raise invalid_param(f"required_state of {place[:255]}: at most {MAX_REQUIRED} entries are possible")
