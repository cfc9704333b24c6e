"""Imports go down only, modules stay small, and the pure rules stay pure."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import heichat_appliance

ROOT = Path(heichat_appliance.__file__).parent
FOUNDATION = {"errors", "ids", "clock", "notify", "ratelimit", "config", "settings", "extension", "outgoing", "tls"}
#: What each part may import besides itself and the foundation.
ALLOWED: dict[str, set[str]] = {
    "protocol": set(),
    "db": {"protocol"},
    "store": {"db", "protocol"},
    "directory": set(),
    "calls": set(),
    "services": {"store", "db", "protocol", "directory"},
    "http": {"services", "store", "db", "protocol", "calls"},
    "plugins": {"services", "store", "db", "protocol", "directory", "http"},
    "admin": {"services", "store", "db", "protocol", "http", "calls", "directory", "plugins"},
}
#: Top-level modules that see everything: the composition root and what starts it.
ROOTS = {"app", "service", "demo"}
IMPURE = (
    "twisted",
    "sqlite3",
    "sqlite_utils",
    "time",
    "datetime",
    "asyncio",
    "socket",
    "os",
    "threading",
    "ldap3",
    "treq",
)
MAX_LINES = 450

MODULES = sorted(path for path in ROOT.rglob("*.py") if path.name != "__init__.py")


def imports(path: Path) -> set[str]:
    """Dotted names that a module imports at run time (what stands under TYPE_CHECKING does not count)."""
    found: set[str] = set()
    tree = ast.parse(path.read_text("utf-8"))
    ignored = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    package = ["heichat_appliance", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(tree):
        if id(node) in ignored:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    parts = path.relative_to(ROOT).with_suffix("").parts
    layer = parts[0]
    if len(parts) == 1 and layer in ROOTS:
        return
    inside = {name.split(".")[1] for name in imports(path) if name.startswith("heichat_appliance.")} - {"__version__"}
    allowed = FOUNDATION if len(parts) == 1 else FOUNDATION | ALLOWED[layer] | {layer}
    assert inside <= allowed, f"{'.'.join(parts)} must not import {sorted(inside - allowed)}"


@pytest.mark.parametrize("path", sorted((ROOT / "protocol").glob("*.py")), ids=lambda path: path.name)
def test_the_rules_are_pure(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert not {name for name in imports(path) if name.split(".")[0] in IMPURE}
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.AsyncFunctionDef, ast.Await))]


@pytest.mark.parametrize(
    "name", ["allocations", "authentication", "budgets", "credentials", "forwarding", "policy", "requests", "stun"]
)
def test_the_relay_knows_neither_sockets_nor_a_clock(name: str) -> None:
    found = imports(ROOT / "calls" / f"{name}.py") - {
        f"socket.{each}" for each in ("AF_INET", "AF_INET6", "inet_ntop", "inet_pton")
    }
    assert not {each for each in found if each.split(".")[0] in {*IMPURE} - {"os"}}


def test_sql_lives_in_store_and_db_alone() -> None:
    words = ("SELECT ", "INSERT ", "UPDATE ", "DELETE FROM ")
    found = []
    for path in MODULES:
        if path.relative_to(ROOT).parts[0] in ("store", "db"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(words):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []


def test_handlers_do_not_know_twisted_web() -> None:
    knowing = [str(p.relative_to(ROOT)) for p in MODULES if any(n.startswith("twisted.web") for n in imports(p))]
    assert [name for name in knowing if name.startswith(("http", "services", "plugins"))] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= MAX_LINES
