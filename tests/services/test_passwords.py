"""Checking passwords: which spellings share a limit, what counts as a failure, how dialogues stay few."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import fail, succeed

from heichat_appliance.errors import MatrixError
from heichat_appliance.extension import DirectoryUnavailable, Person
from heichat_appliance.ratelimit import RateLimiter, address_key
from heichat_appliance.services import uia as uia_module
from heichat_appliance.services.passwords import Passwords
from heichat_appliance.services.sessions import Session
from heichat_appliance.services.uia import AuthenticationNeeded, Uia
from tests.appliance import ManualClock


class Directory:
    """Answers what the test says."""

    def __init__(self) -> None:
        self.answer = succeed(None)

    def authenticate(self, uni_id, password):
        return self.answer


def make(burst: int = 3) -> tuple[Passwords, Directory]:
    clock, directory = ManualClock(), Directory()
    limiters = RateLimiter(clock, 0.01, burst), RateLimiter(clock, 0.01, 100)
    return Passwords(directory, "chat.test", *limiters), directory


async def status(passwords: Passwords, uni_id: str, peer: str = "10.0.0.1") -> int:
    try:
        await passwords.check(uni_id, "x", peer)
    except MatrixError as error:
        return error.status
    return 200


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("spelling", ["ALICE", "al ice", "ａｌｉｃｅ", "alicé"])
async def test_spellings_that_a_directory_may_take_for_the_same_share_a_limit(spelling):
    passwords, _ = make(burst=1)
    assert await status(passwords, "alice") == 403
    assert await status(passwords, spelling) == 429
    assert await status(passwords, "alicia") == 403


@pytest_twisted.ensureDeferred
async def test_only_a_wrong_password_counts():
    passwords, directory = make(burst=1)
    for _ in range(3):
        directory.answer = fail(DirectoryUnavailable("refused"))
        assert await status(passwords, "alice") == 503
        directory.answer = succeed(Person("alice", None, None))
        assert await status(passwords, "alice") == 200
        directory.answer = fail(RuntimeError("broken"))
        with pytest.raises(RuntimeError):
            await status(passwords, "alice")
    directory.answer = succeed(None)
    assert await status(passwords, "alice") == 403
    assert await status(passwords, "alice") == 429


@pytest.mark.parametrize(
    ("peer", "key"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::99", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::1", "::1"),
        ("", ""),
        ("unknown", "unknown"),
    ],
)
def test_addresses_count_by_subscriber(peer, key):
    assert address_key(peer) == key


def test_a_limit_that_is_given_back_never_exceeds_its_burst():
    limiter = RateLimiter(ManualClock(), 0.01, 2)
    limiter.take("x")
    for _ in range(5):
        limiter.give_back("x")
    limiter.take("x")
    limiter.take("x")
    with pytest.raises(MatrixError):
        limiter.take("x")
    limiter.count("x")  # what happened anyway is counted without complaint
    with pytest.raises(MatrixError):
        limiter.check("x")


@pytest.mark.parametrize(
    ("typed", "uni_id"),
    [
        ("Alice", "alice"),
        ("@alice:CHAT.test", "alice"),
        ("@j=c3=bcrgen:chat.test", "jürgen"),
        ("j=c3=bcrgen", "jürgen"),
        ("a=ff", "a=ff"),  # is no UTF-8, so it is meant as it stands
        ("@alice", "@alice"),
    ],
)
def test_what_somebody_means(typed, uni_id):
    assert make()[0].uni_id(typed) == uni_id


@pytest_twisted.ensureDeferred
async def test_dialogues_stay_few(monkeypatch):
    monkeypatch.setattr(uia_module, "MAX_DIALOGUES", 2)
    uia = Uia(make()[0], None, ManualClock())
    session = Session("@alice:chat.test", "PHONE", b"")

    async def ask(auth=None) -> AuthenticationNeeded:
        with pytest.raises(AuthenticationNeeded) as raised:
            await uia.require(session, "POST /x", {"auth": auth}, "10.0.0.1")
        return raised.value

    first, second, third = [(await ask()).dialogue for _ in range(3)]
    assert (await ask({"session": third})).dialogue == third
    assert (await ask({"session": second})).dialogue == second
    assert (await ask({"session": first})).errcode == "M_FORBIDDEN"
