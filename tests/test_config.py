"""The configuration: parsing, all errors at once with their hints, and the example file."""

from __future__ import annotations

from pathlib import Path

import pytest

from heichat_appliance.config import ConfigErrors, example, read
from heichat_appliance.plugins import all_sections

ROOT = Path(__file__).parent.parent

GOOD = """
[server]
name = chat.example.org
public_url = https://chat.example.org/
data_dir = data
listen =
    tcp:8008:interface=127.0.0.1
    tcp:8009:interface=127.0.0.1

[plugins]
enabled = ldap_identity, closed_rooms

[ldap_identity]
uri = ldaps://one.example.org, ldaps://two.example.org
base = ou=people,dc=example,dc=org
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "heichat.ini"
    path.write_text(text)
    return path


def test_a_good_file(tmp_path: Path) -> None:
    config = read(write(tmp_path, GOOD), all_sections())
    assert config["server"].public_url == "https://chat.example.org"
    assert config["server"].data_dir == tmp_path / "data"
    assert len(config["server"].listen) == 2
    assert config["plugins"].enabled == ("ldap_identity", "closed_rooms")
    assert config["storage"].durability == "full"


def test_all_errors_come_at_once_each_with_its_hint(tmp_path: Path) -> None:
    text = """
[server]
name = not a name
public_ulr = https://chat.example.org
data_dir = data
listen = nonsense:1

[storge]
durability = full

[storage]
durability = perhaps

[limits]
send_burst = many
"""
    with pytest.raises(ConfigErrors) as refused:
        read(write(tmp_path, text), all_sections())
    told = "\n".join(refused.value.errors)
    for piece in (
        "[server] name must be a host name",
        "[server] public_ulr is not a key of this section (hint: did you mean public_url?)",
        "[server] public_url is missing",
        "[server] listen",
        "[storge] is not a section (hint: did you mean storage?)",
        "[storage] durability must be one of full, normal, not 'perhaps'",
        "[limits] send_burst must be a whole number",
    ):
        assert piece in told
    assert len(refused.value.errors) == 7


def test_a_missing_file_is_told_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match=r"can't be read.*hint: copy config\.example\.ini"):
        read(tmp_path / "none.ini", all_sections())


def test_the_example_file_is_current_and_valid(tmp_path: Path) -> None:
    """Mend with: heichat-admin example-config > config.example.ini"""
    text = (ROOT / "config.example.ini").read_text("utf-8")
    assert text == example(all_sections())
    read(write(tmp_path, text), all_sections())


@pytest.mark.parametrize("section", all_sections(), ids=lambda section: section.name)
def test_every_key_says_what_it_is(section: object) -> None:
    assert section.doc  # type: ignore[attr-defined]
    for option in section.options:  # type: ignore[attr-defined]
        assert len(option.doc) > 10 and option.doc.endswith("."), option.key
