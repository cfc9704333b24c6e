"""The documentation is complete and its links lead somewhere."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from heichat_appliance.plugins import all_sections
from tests import reference_docs

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "benchmarks/README.md", *DOCS.rglob("*.md")])
WRITTEN = [
    page for page in PAGES if page.is_relative_to(DOCS) and page.name not in ("configuration.md", "heichat-admin.md")
]
COMMANDS = [names for names, _ in reference_docs.commands(reference_docs.parser())]
KEYS = [(section.name, option.key) for section in all_sections() for option in section.options]


@pytest.mark.parametrize(("name", "make"), [("configuration.md", "configuration"), ("heichat-admin.md", "admin")])
def test_references_are_current(name: str, make: str) -> None:
    now = getattr(reference_docs, make)()
    assert (DOCS / name).read_text("utf-8") == now, "python -m tests.reference_docs"


def test_the_example_of_the_configuration_is_current() -> None:
    from heichat_appliance.config import example

    hint = "heichat-admin example-config > config.example.ini"
    assert (ROOT / "config.example.ini").read_text("utf-8") == example(all_sections()), hint


def test_every_key_and_every_section_is_documented() -> None:
    text = (DOCS / "configuration.md").read_text("utf-8")
    parts = {part.split("]")[0]: part for part in re.split(r"(?m)^## \[", text)[1:]}
    missing = [f"[{section}] {key}" for section, key in KEYS if f"\n| `{key}` |" not in parts.get(section, "")]
    assert len(KEYS) > 60 and missing == []


def test_every_key_has_a_text_that_says_something() -> None:
    poor = [
        f"[{s.name}] {o.key}" for s in all_sections() for o in s.options if len(o.doc) < 12 or not o.doc.endswith(".")
    ]
    assert poor == []


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_every_command_is_documented(names: tuple[str, ...]) -> None:
    assert f"## {' '.join(names)}\n" in (DOCS / "heichat-admin.md").read_text("utf-8")
    groups = {before[:-1] for before in COMMANDS}
    if names not in groups:
        pages = "\n".join(page.read_text("utf-8") for page in WRITTEN)
        told = (
            f"heichat-admin {' '.join(names)}" in pages
            or f"`{' '.join(names)}`" in pages
            or f"`{' '.join(names)} " in pages
        )
        assert told, "no page for operators says when to use it"


def test_the_keys_that_the_pages_name_exist() -> None:
    known = {section.name: {option.key for option in section.options} for section in all_sections()}
    wrong = []
    for page in PAGES:
        text = page.read_text("utf-8")
        found = re.findall(r"`\[(\w+)\]((?: \w+)?)`", text)
        for block in re.findall(r"```ini\n(.*?)```", text, re.DOTALL):
            section = ""
            for line in block.splitlines():
                if header := re.fullmatch(r"\[(\w+)\]", line):
                    section = header[1]
                elif key := re.match(r"(\w+) =", line):
                    found.append((section, key[1]))
        for section, key in found:
            if section not in known or (key.strip() and key.strip() not in known[section]):
                wrong.append(f"{page.name}: [{section}] {key}")
    assert wrong == []


def test_the_commands_that_the_pages_name_exist() -> None:
    groups = {names[0] for names in COMMANDS if len(names) > 1}
    wrong = []
    for page in WRITTEN:
        if page.name in ("DEVELOPING.md", "api.md"):
            continue
        for first, second in re.findall(r"heichat-admin ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?", _code(page)):
            names = (first, second) if first in groups and second else (first,)
            if names not in COMMANDS:
                wrong.append(f"{page.name}: heichat-admin {' '.join(names)}")
    assert wrong == []


def _code(page: Path) -> str:
    """What stands in code, inline or in blocks."""
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8"))
    parts = [token.content for token in tokens if token.type in ("fence", "code_block")]
    parts += [inner.content for token in tokens for inner in token.children or () if inner.type == "code_inline"]
    return "\n".join(parts)


def test_the_messages_that_troubleshooting_explains_are_said() -> None:
    said = "\n".join(path.read_text("utf-8") for path in (ROOT / "heichat_appliance").rglob("*.py"))
    table = (DOCS / "operators/troubleshooting.md").read_text("utf-8").split("| it says | so |")[1].split("\n## ")[0]
    first = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    others = {
        "Address already in use",
        "Couldn't listen on",
        "key values mismatch",
        "can't be read: Permission denied",
    }  # of libraries
    messages = {message for cell in first for message in re.findall(r"`(.*?)`", cell)}
    assert len(messages) > 5
    assert [message for message in messages - others if message not in said] == []


# -- links -------------------------------------------------------------------------------------------------------


def links(page: Path) -> list[str]:
    """The targets of a page's links and pictures."""
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8"))
    inner = [child for token in tokens for child in token.children or ()]
    return [
        str(child.attrs.get("href") or child.attrs.get("src"))
        for child in inner
        if child.type in ("link_open", "image")
    ]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and GitLab make them."""
    tokens = MarkdownIt("commonmark").parse(page.read_text("utf-8"))
    headings = [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_inside_the_project_lead_somewhere(page: Path) -> None:
    dead = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or not target.is_relative_to(ROOT) or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md" or not page.exists():
            continue
        seen.add(page)
        waiting += [(page.parent / link.partition("#")[0]).resolve() for link in links(page) if "://" not in link]
    assert [str(page.relative_to(ROOT)) for page in PAGES if page.resolve() not in seen] == []


def test_both_languages_of_the_first_steps_have_the_same_parts() -> None:
    def shape(name: str) -> list[str]:
        tokens = MarkdownIt("commonmark").enable("table").parse((DOCS / name).read_text("utf-8"))
        return [token.type for token in tokens if token.type != "inline"]

    assert shape("first-steps.de.md") == shape("first-steps.en.md")
