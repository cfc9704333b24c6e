"""Token buckets: how often somebody may do something."""

from __future__ import annotations

from collections.abc import Hashable
from ipaddress import IPv4Address, IPv6Address, ip_address

from heichat_appliance.clock import Clock
from heichat_appliance.errors import MatrixError, limit_exceeded

#: The most keys that one limiter remembers; what is full again is forgotten first.
MAX_KEYS = 50_000


def address_key(peer: str) -> str:
    """What is counted as one address: of IPv6 the /64, for that is what one subscriber gets."""
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, IPv4Address) or address.is_loopback:
        return str(address)
    return str(address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64))


class RateLimiter:
    """`burst` actions at once and `per_second` in the long run, for each key (a user ID, an address).

    With `per_second` 0 there is no limit.
    """

    def __init__(self, clock: Clock, per_second: float, burst: int) -> None:
        self._clock = clock
        self._per_ms = per_second / 1000
        self._burst = burst
        self._buckets: dict[Hashable, tuple[float, int]] = {}

    def take(self, key: Hashable, cost: float = 1) -> None:
        """Count one action of `key`; raises 429 M_LIMIT_EXCEEDED (and counts nothing) when there were too many."""
        if not self._per_ms:
            return
        now = self._clock.now_ms()
        tokens, then = self._buckets.get(key, (self._burst, now))
        tokens = min(self._burst, tokens + max(0, now - then) * self._per_ms)
        if tokens < cost:
            raise limit_exceeded(int((cost - tokens) / self._per_ms) + 1)
        if key not in self._buckets and len(self._buckets) >= MAX_KEYS:
            self._forget(now)
        self._buckets[key] = (tokens - cost, now)

    def check(self, key: Hashable) -> None:
        """As `take`, but counts nothing: for actions that only count when they fail."""
        if not self._per_ms or key not in self._buckets:
            return
        tokens, then = self._buckets[key]
        tokens += max(0, self._clock.now_ms() - then) * self._per_ms
        if tokens < 1:
            raise limit_exceeded(int((1 - tokens) / self._per_ms) + 1)

    def give_back(self, key: Hashable, cost: float = 1) -> None:
        """Undo a `take`: for actions that only count when they fail, but must not be tried too often at once."""
        if key in self._buckets:
            tokens, then = self._buckets[key]
            self._buckets[key] = (min(self._burst, tokens + cost), then)

    def count(self, key: Hashable, cost: float = 1) -> None:
        """As `take`, but never refuses: the action has happened already."""
        try:
            self.take(key, cost)
        except MatrixError:
            self._buckets[key] = (0, self._clock.now_ms())

    def _forget(self, now: int) -> None:
        full_again = self._burst / self._per_ms
        kept = {key: bucket for key, bucket in self._buckets.items() if now - bucket[1] < full_again}
        if len(kept) >= MAX_KEYS:
            kept = dict(sorted(kept.items(), key=lambda item: item[1][1])[MAX_KEYS // 2 :])
        self._buckets = kept
