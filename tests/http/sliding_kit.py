"""Sliding sync for tests: a connection that remembers its `pos`, and short ways to look at answers."""

from __future__ import annotations

from typing import Any

from tests.appliance import Actor, Answer

PATH = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
NAMES = [["m.room.name", ""], ["m.room.member", "$LAZY"], ["m.room.member", "$ME"]]


def a_list(start: int = 0, end: int = 19, *, limit: int = 10, state: Any = NAMES, **filters: Any) -> dict[str, Any]:
    """A list with one range."""
    found: dict[str, Any] = {"ranges": [[start, end]], "timeline_limit": limit, "required_state": state}
    return found | ({"filters": filters} if filters else {})


def a_subscription(limit: int = 20, state: Any = NAMES) -> dict[str, Any]:
    """What is wanted of one room."""
    return {"timeline_limit": limit, "required_state": state}


class Sliding:
    """A connection of an actor's device. What it is called with is the body of the request; `timeout` in ms."""

    def __init__(self, actor: Actor, conn_id: str | None = None) -> None:
        self.actor = actor
        self.conn_id = conn_id
        self.pos: str | None = None

    async def ask(self, timeout: int = 0, pos: str | None = None, **body: Any) -> Answer:
        """The answer, whatever its status; does not move on."""
        params: dict[str, Any] = {"timeout": timeout}
        if pos is not None:
            params["pos"] = pos
        if self.conn_id is not None:
            body["conn_id"] = self.conn_id
        return await self.actor.post(PATH, body, params=params)

    async def __call__(self, timeout: int = 0, **body: Any) -> dict[str, Any]:
        """The JSON of an answer that must be 200; the next call goes on from there."""
        found: dict[str, Any] = Actor.ok(await self.ask(timeout, self.pos, **body))
        self.pos = found["pos"]
        return found


def bodies(room: dict[str, Any]) -> list[str]:
    """The texts of the messages in a timeline."""
    return [e["content"].get("body") for e in room["timeline"] if e["type"] == "m.room.message"]


def state_of(room: dict[str, Any]) -> dict[tuple[str, str], Any]:
    """The required state by type and state key."""
    return {(e["type"], e["state_key"]): e["content"] for e in room.get("required_state", [])}


def members_of(room: dict[str, Any]) -> set[str]:
    """Whose member events are in the required state."""
    return {key for type, key in state_of(room) if type == "m.room.member"}


def window(answer: dict[str, Any], name: str = "all") -> list[str]:
    """The room IDs in the first range of a list."""
    return answer["lists"][name]["ops"][0]["room_ids"]
