"""OpenID tokens, and the answers of what this server does not have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.appliance import Appliance, ManualClock, q

USERINFO = "/_matrix/federation/v1/openid/userinfo"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def server(tmp_path: Path, clock: ManualClock) -> Iterator[Appliance]:
    server = pytest_twisted.blockon(Deferred.fromCoroutine(Appliance.start(tmp_path, clock=clock)))
    yield server
    pytest_twisted.blockon(Deferred.fromCoroutine(server.stop()))


@pytest_twisted.ensureDeferred
async def test_a_token_tells_whose_it_is_for_an_hour(server: Appliance, clock: ManualClock) -> None:
    alice = await server.login("alice")
    issued = (await alice.post(f"/user/{q(alice.user_id)}/openid/request_token")).json
    assert (issued["token_type"], issued["matrix_server_name"], issued["expires_in"]) == ("Bearer", "chat.test", 3600)
    told = await server.http.get(USERINFO, access_token=issued["access_token"])
    assert told.json == {"sub": alice.user_id}
    clock.advance(3601)
    assert (await server.http.get(USERINFO, access_token=issued["access_token"])).errcode == "M_UNKNOWN_TOKEN"


@pytest_twisted.ensureDeferred
async def test_only_the_own_token_and_no_made_up_one(server: Appliance) -> None:
    alice = await server.login("alice")
    refused = await alice.post(f"/user/{q('@bob:chat.test')}/openid/request_token")
    assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN")
    assert (await server.http.get(USERINFO, access_token=alice.token)).status == 401
    assert (await server.http.get(USERINFO)).errcode == "M_MISSING_PARAM"


@pytest.mark.parametrize(
    ("method", "path", "status", "errcode"),
    [
        ("POST", "/_matrix/client/v1/login/get_token", 400, "M_FORBIDDEN"),
        ("POST", "/_matrix/client/v1/appservice/bridge/ping", 403, "M_FORBIDDEN"),
        ("GET", "/_matrix/client/v3/events", 403, "M_FORBIDDEN"),
        ("GET", "/_matrix/client/v3/initialSync", 404, "M_UNRECOGNIZED"),
        ("GET", "/_matrix/client/v1/auth_metadata", 404, "M_UNRECOGNIZED"),
        ("GET", "/_matrix/client/v1/media/preview_url?url=http://x", 403, "M_FORBIDDEN"),
        ("GET", "/_matrix/client/v3/thirdparty/protocol/irc", 404, "M_NOT_FOUND"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_not_here_says_so(server: Appliance, method: str, path: str, status: int, errcode: str) -> None:
    alice = await server.login("alice")
    answer = await alice.request(method, path, {} if method == "POST" else None)
    assert (answer.status, answer.errcode) == (status, errcode)
    assert answer.json["error"]
