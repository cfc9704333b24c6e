"""Sync and pagination tokens: `s<position>.<epoch>`, and what they mean.

A token stands between two positions: everything up to and including its position lies before it. The same form serves
`/sync` (`since` means "after") and `/messages` (backwards: that position and older; forwards: newer).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from heichat_appliance.errors import invalid_param

_FORM = re.compile(r"[st]([0-9]{1,18})\.([0-9]{1,9})(?:\.([0-9]{1,18}))?")


class Token(NamedTuple):
    """`to_device`: to-device messages were given up to this position only (there were too many for one answer)."""

    position: int
    epoch: int
    to_device: int | None = None

    def __str__(self) -> str:
        rest = "" if self.to_device is None else f".{self.to_device}"
        return f"s{self.position}.{self.epoch}{rest}"


@lru_cache(maxsize=256)  # everybody who waits in a room comes with the same one
def parse(text: str, name: str) -> Token:
    """The token in the parameter `name`; 400 M_INVALID_PARAM if it has another form."""
    match = _FORM.fullmatch(text) if text.isascii() else None
    if match is None:
        raise invalid_param(f"{name} is not a token of this server (it looks like s1234.1)")
    position, epoch, to_device = match.groups()
    return Token(int(position), int(epoch), None if to_device is None else int(to_device))
