"""The configuration: every key declared once, with type, default, text and hint.

From the declaration come the parsing, all errors at once (each with the hint that mends it), `config.example.ini`, and the
reference in the documentation.
"""

from __future__ import annotations

import configparser
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from heichat_appliance import tls

REQUIRED = object()

SERVER_NAME = re.compile(r"[A-Za-z0-9.\-]{1,230}(:[0-9]{1,5})?")


class ConfigErrors(Exception):
    """Everything that is wrong with a configuration: `errors` are sentences, each with its hint."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Option:
    """One key: `parse` turns its text into the value or raises ValueError with a sentence; `default` is a value,
    None (may be left out) or REQUIRED; `example` is shown in the example file where the default says little."""

    key: str
    parse: Callable[[str], Any]
    default: Any
    doc: str
    hint: str = ""
    example: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """One section of the file with its options."""

    name: str
    doc: str
    options: tuple[Option, ...]


class Settings(Mapping[str, Any]):
    """The values of one section, by key or as attributes."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def __getattr__(self, key: str) -> Any:
        try:
            return self.__dict__["_values"][key]
        except KeyError:
            raise AttributeError(key)

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration: `sections[name]` are its Settings; `source` says where it came from."""

    sections: dict[str, Settings]
    source: str
    demo: bool = False
    present: frozenset[str] = field(default_factory=frozenset)

    def __getitem__(self, section: str) -> Settings:
        return self.sections[section]


# -- types -------------------------------------------------------------------------------------------------------


def text(value: str) -> str:
    """A line of text that is not empty."""
    if not value:
        raise ValueError("must not be empty")
    return value


def lines(value: str) -> tuple[str, ...]:
    """Several values, one per line or separated by commas."""
    return tuple(part.strip() for part in re.split(r"[\n,]", value) if part.strip())


def endpoints(value: str) -> tuple[str, ...]:
    """Twisted endpoint strings, one per line (they may hold commas)."""
    found = tuple(part.strip() for part in value.splitlines() if part.strip())
    for one in found:
        if one.split(":")[0] not in {"tcp", "tcp6", "ssl", "unix", "systemd"}:
            raise ValueError(f"{one!r} is not a Twisted server endpoint such as tcp:8008:interface=127.0.0.1")
        if one.startswith("ssl:"):
            tls.parse(one)
    return found


def boolean(value: str) -> bool:
    """yes or no."""
    known = {"yes": True, "no": False, "true": True, "false": False, "on": True, "off": False, "1": True, "0": False}
    if value.lower() not in known:
        raise ValueError(f"must be yes or no, not {value!r}")
    return known[value.lower()]


def integer(low: int, high: int) -> Callable[[str], int]:
    """A whole number from `low` to `high`."""

    def parse(value: str) -> int:
        if not re.fullmatch(r"-?[0-9]+", value) or not low <= int(value) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}, not {value!r}")
        return int(value)

    return parse


def number(low: float, high: float) -> Callable[[str], float]:
    """A number from `low` to `high`."""

    def parse(value: str) -> float:
        try:
            result = float(value)
        except ValueError:
            result = float("nan")
        if not low <= result <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}, not {value!r}")
        return result

    return parse


def choice(*allowed: str) -> Callable[[str], str]:
    """One of some words."""

    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}, not {value!r}")
        return value

    return parse


def size(value: str) -> int:
    """A number of bytes: 1048576, 512K, 50M or 2G."""
    match = re.fullmatch(r"([0-9]+)\s*([KMG]?)i?B?", value, re.IGNORECASE)
    if not match:
        raise ValueError(f"must be a size such as 50M, not {value!r}")
    return int(match[1]) * {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}[match[2].upper()]


def server_name(value: str) -> str:
    """A Matrix server name."""
    if not SERVER_NAME.fullmatch(value):
        raise ValueError(f"must be a host name such as matrix-im.example.org, not {value!r}")
    return value.lower()


def url(value: str) -> str:
    """An http or https URL without a slash at its end."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"must be a URL such as https://matrix-im.example.org, not {value!r}")
    return value.rstrip("/")


def path(value: str) -> Path:
    """A path of a file or folder; a relative one counts from the configuration's folder."""
    return Path(text(value)).expanduser()


# -- reading -----------------------------------------------------------------------------------------------------


def read(source: Path, sections: Iterable[Section]) -> Config:
    """Read the INI file `source` against the declared `sections`; raises ConfigErrors with everything that is wrong."""
    parser = configparser.ConfigParser(interpolation=None, strict=True, empty_lines_in_values=False)
    try:
        parser.read_string(source.read_text("utf-8"), str(source))
    except OSError as error:
        raise ConfigErrors([f"{source} can't be read: {error.strerror} (hint: copy config.example.ini there)"])
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ConfigErrors([f"{source} is not a valid INI file: {error}"])
    raw = {name: dict(parser.items(name)) for name in parser.sections()}
    return from_values(raw, sections, source=str(source), folder=source.parent.absolute())


def from_values(
    raw: dict[str, dict[str, str]], sections: Iterable[Section], *, source: str, folder: Path, demo: bool = False
) -> Config:
    """Build a Config from texts; relative paths count from `folder`. Raises ConfigErrors."""
    declared = {section.name: section for section in sections}
    errors: list[str] = []
    for name in raw:
        if name not in declared:
            errors.append(f"[{name}] is not a section{_nearest(name, declared)}")
    values = {}
    for name, section in declared.items():
        values[name] = Settings(_read_section(section, raw.get(name, {}), name in raw, folder, errors))
    if errors:
        raise ConfigErrors(errors)
    return Config(values, source, demo, frozenset(raw))


def _read_section(
    section: Section, raw: dict[str, str], present: bool, folder: Path, errors: list[str]
) -> dict[str, Any]:
    options = {option.key: option for option in section.options}
    for key in raw:
        if key not in options:
            errors.append(f"[{section.name}] {key} is not a key of this section{_nearest(key, options)}")
    values: dict[str, Any] = {}
    for option in section.options:
        hint = f" (hint: {option.hint})" if option.hint else ""
        if option.key not in raw:
            if option.default is REQUIRED and (present or section.name == "server"):
                errors.append(f"[{section.name}] {option.key} is missing: {option.doc}{hint}")
            values[option.key] = None if option.default is REQUIRED else option.default
            continue
        try:
            value = option.parse(raw[option.key].strip())
        except ValueError as error:
            errors.append(f"[{section.name}] {option.key} {error}{hint}")
            continue
        values[option.key] = folder / value if isinstance(value, Path) else value
    return values


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (hint: did you mean {close[0]}?)" if close else f" (hint: known are {', '.join(known)})"


# -- the example file --------------------------------------------------------------------------------------------


def example(sections: Iterable[Section]) -> str:
    """The text of config.example.ini: every key with its text; those that may be left out are commented out."""
    parts = [
        "# heiCHAT: example configuration, generated from the declaration by",
        "#   heichat-admin example-config > config.example.ini",
        "# Keys that are commented out show their default.",
    ]
    for section in sections:
        parts += ["", "", *_comment(section.doc), f"[{section.name}]"]
        for option in section.options:
            parts += ["", *_comment(option.doc + (f" Hint: {option.hint}." if option.hint else ""))]
            parts.append(_example_line(option))
    return "\n".join(parts) + "\n"


def _example_line(option: Option) -> str:
    value = option.example or _as_text(option.default)
    shown = value.replace("\n", "\n#     " if option.default is not REQUIRED else "\n    ")
    return f"{option.key} = {shown}" if option.default is REQUIRED else f"# {option.key} = {shown}".rstrip()


def _as_text(value: Any) -> str:
    if value is None or value is REQUIRED:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value)
    return str(value)


def _comment(doc: str) -> list[str]:
    words, rows = doc.split(), ["#"]
    for word in words:
        if len(rows[-1]) + len(word) > 110:
            rows.append("#")
        rows[-1] += " " + word
    return rows
