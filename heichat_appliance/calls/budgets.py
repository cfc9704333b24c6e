"""Budgets of the relay: bandwidth, and what may be sent to people who have not proven yet who they are."""

from __future__ import annotations

from collections.abc import Callable


class Bucket:
    """Bytes per second, with one second's worth at once. `clock` gives seconds and is asked only when the bucket is empty."""

    __slots__ = ("_clock", "_credit", "_rate", "_then")

    def __init__(self, clock: Callable[[], float], rate: int) -> None:
        """`rate` in bytes per second; 0 for no limit."""
        self._clock, self._rate, self._credit, self._then = clock, rate, rate, clock()

    def take(self, size: int) -> bool:
        """Count `size` bytes; False (and nothing counted) when they are too many now."""
        if self._credit < size:
            if not self._rate:
                return True
            now = self._clock()
            self._credit = min(self._rate, self._credit + int((now - self._then) * self._rate))
            self._then = now
            if self._credit < size:
                return False
        self._credit -= size
        return True


class Ledger:
    """Keeps the server from being an amplifier: over UDP, strangers are sent no more bytes than came from them.

    A sender's address can be forged, so what a datagram without proof makes us send hits whoever the attacker names. But RFC
    8656 asks for an answer (401 with REALM and NONCE, 56 bytes with a short realm) that is larger than the smallest
    request (28 bytes), and a Binding answer (32) is larger than its request (20). So answers are paid for:

    - each address (IPv6: /64) has an account; what comes from it, proven or not, is paid in, and each answer to something
      unproven is paid out. Who has too little is not answered; clients repeat a request, which pays for the answer.
    - `LOAN` bytes are lent once, so that the first answers come at once. With the first refusal the loan is called back:
      from then on an answer is sent only if all that was sent, and it, is covered by what came.
    - all accounts together have a limit as well, so that many forged addresses gain nothing either.

    So the bytes sent to strangers never exceed those received by more than the loan, and soon not at all: in all, and for
    each address in the time that it is remembered (at least `MEMORY` seconds, unless a flood from many addresses comes
    between).
    """

    #: The excess of the first requests of a client with two networks; few enough that a client's seven tries pay it back.
    LOAN, CEILING = 96, 8192
    TOTAL_LOAN = 64 * 1024
    MEMORY, MAX_ADDRESSES = 600, 20_000

    def __init__(self) -> None:
        self._total = self.TOTAL_LOAN
        #: host -> what was received less what was sent, and how far below zero it may go
        self._accounts: dict[str, tuple[int, int]] = {}
        self._older: dict[str, tuple[int, int]] = {}
        self._turned = 0.0

    def received(self, host: str, size: int, now: float) -> None:
        """`size` bytes came from `host`; `now` in seconds."""
        self._total = min(self.TOTAL_LOAN, self._total + size)
        self._turn(now)
        balance, loan = self._account(host)
        self._accounts[host] = min(self.CEILING, balance + size), loan

    def may_send(self, host: str, size: int) -> bool:
        """Pay for an answer of `size` bytes to `host`; False when there is too little."""
        balance, loan = self._account(host)
        if self._total < size:
            return False
        if balance + loan < size:
            self._accounts[host] = balance, 0
            return False
        self._accounts[host] = balance - size, loan
        self._total -= size
        return True

    def _account(self, host: str) -> tuple[int, int]:
        return self._accounts.get(host) or self._older.get(host) or (0, self.LOAN)

    def _turn(self, now: float) -> None:
        """Forget in two generations, so that an account lives at least `MEMORY` seconds after its last use."""
        if now - self._turned > self.MEMORY or len(self._accounts) >= self.MAX_ADDRESSES:
            self._older, self._accounts, self._turned = self._accounts, {}, now
