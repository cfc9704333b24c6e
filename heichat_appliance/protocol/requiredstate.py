"""Which state a sliding sync asks for (MSC4186, `required_state`): a list of [type, state key], any of which may match."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MEMBER = "m.room.member"
ANY, ME, LAZY = "*", "$ME", "$LAZY"


@dataclass(frozen=True, slots=True)
class Required:
    """`everything`; all of some `types`; what is named `exact`ly; `lazy`: members when they appear in the timeline."""

    everything: bool = False
    types: frozenset[str] = frozenset()
    exact: frozenset[tuple[str, str]] = frozenset()
    lazy: bool = False

    def matches(self, type: str, state_key: str) -> bool:
        """Whether this piece of state is asked for, whatever the timeline holds."""
        if type in self.types or (type, state_key) in self.exact:
            return True
        return self.everything and not (self.lazy and type == MEMBER)

    def union(self, other: Required) -> Required:
        """What at least one of both asks for."""
        if self == other:
            return self
        entries = (*self.entries(), *other.entries())
        if any(one.everything and not one.lazy for one in (self, other)):
            entries = (*entries, (MEMBER, ANY))
        return parse(entries, "")

    def entries(self) -> list[tuple[str, str]]:
        """The same as a list, always in the same order."""
        found = [(type, ANY) for type in self.types] + list(self.exact)
        if self.everything:
            found.append((ANY, ANY))
        if self.lazy:
            found.append((MEMBER, LAZY))
        return sorted(found)

    def beyond(self, other: Required) -> Required:
        """What this asks for and `other` did not (a little more where that can't be said in entries)."""
        if other.everything and not other.lazy:
            return Required()
        exact = frozenset(pair for pair in self.exact if not other.matches(*pair))
        types = frozenset(type for type in self.types - other.types if type == MEMBER or not other.everything)
        return Required(self.everything and not (other.everything and self.lazy), types, exact, self.lazy)

    @property
    def is_nothing(self) -> bool:
        """Whether no state is asked for except for that of lazily loaded members."""
        return not (self.everything or self.types or self.exact)


def parse(entries: Iterable[Sequence[str]], user_id: str) -> Required:
    """The meaning of `required_state` for a person. "*" as a type asks for everything, with whatever state key."""
    everything = lazy = False
    types: set[str] = set()
    exact: set[tuple[str, str]] = set()
    for type, state_key in entries:
        if type == ANY:
            everything = True
        elif state_key == ANY:
            types.add(type)
        elif type == MEMBER and state_key == LAZY:
            lazy = True
        else:
            exact.add((type, user_id if state_key == ME else state_key))
    return Required(
        everything,
        frozenset(types),
        frozenset(pair for pair in exact if pair[0] not in types),
        lazy and MEMBER not in types,
    )
