"""Root works in a folder of the daemon's user: what it makes belongs to that user, and links there lead root nowhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def as_owner_of(folder: Path) -> Iterator[None]:
    """Where root runs this, be the owner of `folder`, or of the nearest folder above it that exists, for a while."""
    if os.geteuid() != 0:
        yield
        return
    place = next(one for one in (folder, *folder.absolute().parents) if one.exists()).stat()
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(place.st_gid)
    os.seteuid(place.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def give_to_owner_of(folder: Path, *paths: Path) -> None:
    """What root made, files and whole folders, belongs to the owner of `folder` from now on."""
    if os.geteuid() != 0:
        return
    owner = folder.stat()
    for path in paths:
        for one in (path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())):
            os.chown(one, owner.st_uid, owner.st_gid, follow_symlinks=False)
