"""docs/api.md: every operation of the server, from the route table."""

from __future__ import annotations

from collections.abc import Iterable

from heichat_appliance.http.routing import Auth, Gate, Route

_SPEC = "https://spec.matrix.org/v1.19/client-server-api/#"
_HEAD = """\
# The operations of this server

Generated from the route table; a test keeps it current (`python -m tests.api_docs` writes it).

- **Auth**: `user` needs an access token in the header `Authorization: Bearer …`; `optional` takes one; `none` needs none.
  The deprecated query parameter `access_token` still works, as the specification v1.19 has it.
- **Limit**: the rate limit of `[limits]` that counts the request (`none`: none).
- **Gates**: `all`: refused for locked and suspended accounts and before the terms were agreed to; `reads`: refused for locked
  accounts only.
- The paths under `/try` are there with `--demo` only.
- Every operation under `/_matrix/client/v3/` and `/_matrix/media/v3/` also answers under its old name `r0`.
- Deprecated and still called: `GET /rooms/{roomId}/initialSync` is answered (it is not deprecated any more since v1.14);
  `GET /initialSync` is 404 `M_UNRECOGNIZED`, `GET /events` 403, both replaced by `/sync`.
"""


def document(routes: Iterable[Route]) -> str:
    """The text of docs/api.md."""
    ordered = sorted(routes, key=lambda route: (route.path, route.method))
    here = [route for route in ordered if not route.absent]
    absent = [route for route in ordered if route.absent]
    return "\n".join(
        [
            _HEAD,
            "## Operations",
            "",
            "| operation | auth | limit | gates |",
            "|---|---|---|---|",
            *(f"| {_name(r)} | {_auth(r)} | {r.limit} | {_gates(r)} |" for r in here),
            "",
            "## Operations that do not apply here",
            "",
            "| operation | answer, and why |",
            "|---|---|",
            *(f"| {_name(r)} | {r.absent} |" for r in absent),
            "",
        ]
    )


def _name(route: Route) -> str:
    name = f"`{route.method} {route.path}`"
    linked = f"[{name}]({_SPEC}{route.anchor})" if route.anchor and not _is_unstable(route) else name
    return linked + "".join(f"<br>also `{other}`" for other in route.also)


def _is_unstable(route: Route) -> bool:
    return (
        "/unstable/" in route.path or "/federation/" in route.path or not route.path.startswith(("/_matrix", "/.well"))
    )


def _auth(route: Route) -> str:
    return {Auth.NONE: "none", Auth.OPTIONAL: "optional", Auth.USER: "user"}[route.auth]


def _gates(route: Route) -> str:
    if route.auth is Auth.NONE:
        return ""
    names = {Gate.ALL: "all", Gate.READS: "reads", Gate.NOTHING: "none"}
    return names.get(route.gates) or " ".join(gate.name.lower() for gate in route.gates if gate.name)
