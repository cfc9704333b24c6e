"""Archives with the layout of an Element Web release, good ones and hostile ones."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

#: Shapes of names and types as in a release; `bundle` stands for a large script.
BUNDLE = b"'use strict'; const text = 'a bundle';\n" * 8000


def release_files(version: str) -> dict[str, bytes]:
    """What a release of this version holds, by path."""
    key = sha256(version.encode()).hexdigest()[:20]
    page = (
        f"<!doctype html><title>Element</title><script src='bundles/{key}/bundle.js'></script><p>Element {version}</p>"
    )
    return {
        "index.html": page.encode(),
        "version": version.encode(),
        "config.sample.json": b'{"default_server_config": {"m.homeserver": {"base_url": "https://matrix-client.matrix.org"}}}',
        f"bundles/{key}/bundle.js": BUNDLE + version.encode(),
        f"bundles/{key}/bundle.js.map": b"{}" * 2000,
        f"bundles/{key}/opus.wasm": b"\0asm" + bytes(200_000),
        "i18n/de_DE.0f1a2b3.json": b'{"Hello": "Hallo"}' * 100,
        "i18n/languages.json": b'{"en": "en_EN.json"}',
        "fonts/Inter-Regular.8c206db.woff2": bytes(range(256)) * 8,
        "img/logo.1a2b3c4.svg": b"<svg xmlns='http://www.w3.org/2000/svg'></svg>",
        "media/ring.a1b2c3d.ogg": b"OggS" + bytes(100),
        "sw.js": b"self.addEventListener('fetch', () => {});",
        "themes/element/img/logos/opengraph.png": b"\x89PNG\r\n\x1a\n",
        "welcome/images/logo.svg": b"<svg xmlns='http://www.w3.org/2000/svg'></svg>",
    }


def archive(
    path: Path,
    files: Mapping[str, bytes],
    members: Iterable[tuple[tarfile.TarInfo, io.BytesIO]] = (),
    top: str = "element-v1",
) -> str:
    """Write a .tar.gz with `files` in the folder `top`, and `members` as they are; its SHA-256."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        folder = tarfile.TarInfo(top)
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in files.items():
            tar.addfile(*member(f"{top}/{name}", content))
        for info, content in members:
            tar.addfile(info, content)
    data = gzip.compress(raw.getvalue(), 1)
    path.write_bytes(data)
    return sha256(data).hexdigest()


def member(
    name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, io.BytesIO]:
    """A member of an archive."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    info.mode = 0o777
    return info, io.BytesIO(content)


def release(path: Path, version: str = "1.11.90") -> str:
    """A good archive; its SHA-256."""
    return archive(path, release_files(version), top=f"element-v{version}")
