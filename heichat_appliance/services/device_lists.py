"""Whose device lists changed, for /sync and /keys/changes (spec, "Tracking the device list for a user")."""

from __future__ import annotations

from heichat_appliance.store.events import Execute


def changed_and_left(execute: Execute, user_id: str, after: int, upto: int) -> tuple[set[str], set[str]]:
    """What must be said to a person about device lists between two positions (after < pos <= upto).

    `changed`: who shares an encrypted room with them at `upto` and changed devices or keys in between or did not share
    one at `after`; they themselves, if they changed; and people whose master key they signed in between.
    `left`: who shared one at `after` and no longer at `upto`. Cheap if nothing happened: three empty index ranges.
    """
    raise NotImplementedError
