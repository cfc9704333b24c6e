"""Push rules over real HTTP: reading, changing, and hearing of it in sync."""

from __future__ import annotations

import pytest_twisted

from tests.appliance import Appliance, q
from tests.http.room_kit import QUIET, long_poll

GLOBAL = "/pushrules/global"


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, plugins=("demo_directory",), config=QUIET)
    yield running
    await running.stop()


async def names(actor, kind):
    return [rule["rule_id"] for rule in (await actor.get(f"{GLOBAL}/")).json[kind]]


def rules_in(sync):
    return [e["content"]["global"] for e in sync["account_data"]["events"] if e["type"] == "m.push_rules"]


@pytest_twisted.ensureDeferred
async def test_the_defaults_are_those_of_the_spec(server):
    alice = await server.login("alice")
    everything = (await alice.get("/pushrules/")).json
    assert everything == (await alice.get("/pushrules")).json
    assert everything["global"] == (await alice.get(f"{GLOBAL}/")).json == (await alice.get(GLOBAL)).json
    assert everything["global"]["override"][0]["rule_id"] == ".m.rule.master"
    invite = (await alice.get(f"{GLOBAL}/override/.m.rule.invite_for_me")).json
    assert {"kind": "event_match", "key": "state_key", "pattern": alice.user_id} in invite["conditions"]
    assert rules_in(await alice.sync()) == [everything["global"]]


@pytest_twisted.ensureDeferred
async def test_a_rule_of_ones_own(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    await alice.sync()
    waiting = await long_poll(server, alice)
    path = f"{GLOBAL}/content/lecture"
    answer = await alice.put(path, {"pattern": "Vorlesung", "actions": ["notify", {"set_tweak": "highlight"}]})
    assert answer.json == {}
    rule = {
        "rule_id": "lecture", "default": False, "enabled": True, "pattern": "Vorlesung",
        "actions": ["notify", {"set_tweak": "highlight"}],
    }  # fmt: skip
    assert rules_in(await waiting[0])[0]["content"] == [rule]
    assert (await alice.get(path)).json == rule
    assert (await bob.get(path)).errcode == "M_NOT_FOUND"
    assert (await alice.put(path + "/enabled", {"enabled": False})).json == {}
    assert (await alice.get(path + "/enabled")).json == {"enabled": False}
    assert (await alice.put(path + "/actions", {"actions": []})).json == {}
    assert (await alice.get(path + "/actions")).json == {"actions": []}
    assert (await alice.delete(path)).json == {}
    assert (await alice.get(path)).status == 404
    assert rules_in(await alice.sync())[0]["content"] == []


@pytest_twisted.ensureDeferred
async def test_the_order_of_rules(server):
    alice = await server.login("alice")
    for name in ("c", "b", "a"):
        await alice.put(f"{GLOBAL}/underride/{name}", {"actions": [], "conditions": []})
    assert (await names(alice, "underride"))[:3] == ["a", "b", "c"]
    await alice.request("PUT", f"{GLOBAL}/underride/c", {"actions": []}, params={"before": "b"})
    assert (await names(alice, "underride"))[:3] == ["a", "c", "b"]
    await alice.request("PUT", f"{GLOBAL}/underride/a", {"actions": []}, params={"after": "b"})
    assert (await names(alice, "underride"))[:3] == ["c", "b", "a"]
    for name in ("unknown", ".m.rule.call"):
        answer = await alice.request("PUT", f"{GLOBAL}/underride/x", {"actions": []}, params={"after": name})
        assert answer.status == 400
    assert "x" not in await names(alice, "underride")


@pytest_twisted.ensureDeferred
async def test_default_rules_are_changed_but_never_deleted(server):
    alice = await server.login("alice")
    path = f"{GLOBAL}/underride/.m.rule.message"
    assert (await alice.put(path + "/actions", {"actions": ["notify"]})).status == 200
    assert (await alice.put(path + "/enabled", {"enabled": False})).status == 200
    rule = (await alice.get(path)).json
    assert (rule["actions"], rule["enabled"], rule["default"]) == (["notify"], False, True)
    assert (await alice.delete(path)).status == 400
    assert (await alice.put(path, {"actions": []})).errcode == "M_INVALID_PARAM"
    assert (await alice.get(path)).json == rule


@pytest_twisted.ensureDeferred
async def test_room_and_sender_rules(server):
    alice = await server.login("alice")
    for kind, name in (("room", "!room/with:chat.test".replace("/", "")), ("sender", "@bob:chat.test")):
        assert (await alice.put(f"{GLOBAL}/{kind}/{q(name)}", {"actions": []})).status == 200
        assert (await alice.get(f"{GLOBAL}/{kind}/{q(name)}")).json["rule_id"] == name


@pytest_twisted.ensureDeferred
async def test_bad_rules(server, monkeypatch):
    alice = await server.login("alice")
    for path, body in (
        ("content/x", {"actions": ["notify"]}),
        ("content/x", {"pattern": 5, "actions": []}),
        ("override/x", {"actions": "notify"}),
        ("override/x", {}),
        ("override/x", {"actions": [], "conditions": [{"kind": 1}]}),
        ("override/a%2Fb", {"actions": []}),
        ("override/a%5Cb", {"actions": []}),
        ("override/" + "x" * 256, {"actions": []}),
        ("nonsense/x", {"actions": []}),
    ):
        answer = await alice.put(f"{GLOBAL}/{path}", body)
        assert (answer.status, answer.errcode) == (400, "M_INVALID_PARAM"), path
    for path in ("content/x", "override/unknown"):
        assert (await alice.get(f"{GLOBAL}/{path}")).errcode == "M_NOT_FOUND"
        assert (await alice.delete(f"{GLOBAL}/{path}")).errcode == "M_NOT_FOUND"
        assert (await alice.put(f"{GLOBAL}/{path}/enabled", {"enabled": True})).errcode == "M_NOT_FOUND"
        assert (await alice.put(f"{GLOBAL}/{path}/actions", {"actions": []})).errcode == "M_NOT_FOUND"
    master = f"{GLOBAL}/override/.m.rule.master"
    assert (await alice.put(master + "/enabled", {"enabled": "yes"})).errcode == "M_BAD_JSON"
    assert (await alice.put(master + "/enabled", {})).errcode == "M_MISSING_PARAM"
    assert (await alice.put(master + "/actions", {"actions": [5]})).errcode == "M_INVALID_PARAM"
    monkeypatch.setattr("heichat_appliance.services.pushrules.MAX_CHANGES", 300)
    answer = await alice.put(f"{GLOBAL}/content/x", {"pattern": "y" * 300, "actions": []})
    assert (answer.status, answer.errcode) == (413, "M_TOO_LARGE")


@pytest_twisted.ensureDeferred
async def test_historical_actions_stay_and_do_nothing(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    room_id = await alice.create_room(invite=[bob.user_id])
    await bob.join(room_id)
    path = f"{GLOBAL}/room/{q(room_id)}"
    assert (await bob.put(path, {"actions": ["dont_notify"]})).status == 200
    assert (await bob.get(path)).json["actions"] == ["dont_notify"]
    await alice.send(room_id, {"msgtype": "m.text", "body": "quiet"})
    count = (await bob.sync())["rooms"]["join"][room_id]["unread_notifications"]
    assert count["notification_count"] == 0
