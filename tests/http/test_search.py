"""Searching messages, names and topics."""

from __future__ import annotations

from random import Random

import pytest
import pytest_twisted

from tests.appliance import Appliance, q
from tests.http.reading_kit import GONE, OUTSIDE, TickingClock, bodies, messages, refused, society
from tests.http.room_kit import QUIET, make_room, say, set_member, user


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, plugins=("demo_directory",), config=QUIET, clock=TickingClock())
    yield running
    await running.stop()


async def ask(actor, term, next_batch=None, **criteria):
    """The category room_events of an answer."""
    body = {"search_categories": {"room_events": {"search_term": term, **criteria}}}
    params = {"next_batch": next_batch} if next_batch else None
    return actor.ok(await actor.post("/search", body, params=params))["search_categories"]["room_events"]


async def found(actor, term, **criteria):
    """The bodies (or names, or topics) that match, newest first."""
    results = (await ask(actor, term, order_by="recent", **criteria))["results"]
    contents = [one["result"]["content"] for one in results]
    return [content.get("body") or content.get("name") or content.get("topic") for content in contents]


def edit(parent, body):
    return {"m.new_content": {"body": body, "msgtype": "m.text"},
            "m.relates_to": {"rel_type": "m.replace", "event_id": parent}}  # fmt: skip


# -- what is found -----------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_words_are_found_whatever_their_case_and_accents(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    for body in ("Die Klausur ist am Montag", "die KLAUSUREN sind korrigiert", "Übungsblatt für Montag", "égal 42"):
        await say(server, room, "alice", body)
    assert await found(alice, "klausur") == ["die KLAUSUREN sind korrigiert", "Die Klausur ist am Montag"]
    assert await found(alice, "montag") == ["Übungsblatt für Montag", "Die Klausur ist am Montag"]
    assert await found(alice, "MONTAG klausur") == ["Die Klausur ist am Montag"]
    assert await found(alice, "ubungsblatt") == ["Übungsblatt für Montag"]
    assert await found(alice, "Egal") == ["égal 42"]
    assert await found(alice, "42") == ["égal 42"]
    assert await found(alice, '"am montag"') == ["Die Klausur ist am Montag"]
    assert await found(alice, '"montag am"') == []
    assert await found(alice, '"klausur') == ["Die Klausur ist am Montag"], "in quotes only whole words"
    assert await found(alice, "ist nirgends") == []


@pytest.mark.parametrize(
    "term",
    ["", "   ", "!!!", '"', '""', "*", "a*", "AND", "NOT x", "body:", "col : x", "(", ")", "NEAR(", "x OR", "^x", "{body}",
     "'; DROP TABLE events; --", "👍", "x\ny", "-x", "+", "a\"b\"c"],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_no_term_is_taken_for_a_query_language(server, term):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    await say(server, room, "alice", "harmless")
    assert (await ask(alice, term))["results"] == []


@pytest_twisted.ensureDeferred
async def test_names_and_topics_are_found_and_can_be_chosen(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    await say(server, room, "alice", "needle body")
    await alice.set_state(room, "m.room.name", {"name": "needle name"})
    texts = [{"body": "haystack"}, {"body": "<b>markup</b>", "mimetype": "text/html"}]
    topic = {"topic": "needle topic", "m.topic": {"m.text": texts}}
    await alice.set_state(room, "m.room.topic", topic)
    assert await found(alice, "needle") == ["needle topic", "needle name", "needle body"]
    assert await found(alice, "haystack") == ["needle topic"]
    assert await found(alice, "markup") == []
    assert await found(alice, "needle", keys=["content.name"]) == ["needle name"]
    assert await found(alice, "needle", keys=["content.topic", "content.body"]) == ["needle topic", "needle body"]
    # a name of the past is found as well
    await alice.set_state(room, "m.room.name", {"name": "other"})
    assert await found(alice, "needle", keys=["content.name"]) == ["needle name"]


@pytest_twisted.ensureDeferred
async def test_a_message_is_found_by_its_latest_edit(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice", bob="join")
    event = await say(server, room, "alice", "original")
    assert await found(alice, "original") == ["original"]
    await say(server, room, "alice", "* second", **edit(event, "second"))
    third = await say(server, room, "alice", "* third", **edit(event, "third"))
    await say(server, room, "bob", "* forged", **edit(event, "forged"))
    result = (await ask(alice, "third"))["results"]
    assert [one["result"]["event_id"] for one in result] == [event]
    for term in ("original", "second", "forged"):
        assert await found(alice, term) == []
    alice.ok(await alice.put(f"/rooms/{q(room)}/redact/{q(third)}/t"))
    assert await found(alice, "third") == []
    assert await found(alice, "second") == ["original"]


@pytest_twisted.ensureDeferred
async def test_what_was_redacted_is_not_found(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    indexed = await say(server, room, "alice", "needle one")
    assert await found(alice, "needle") == ["needle one"]
    fresh = await say(server, room, "alice", "needle two")
    edited = await say(server, room, "alice", "needle three")
    await say(server, room, "alice", "x", **edit(edited, "needle four"))
    for number, event in enumerate((indexed, fresh, edited)):
        alice.ok(await alice.put(f"/rooms/{q(room)}/redact/{q(event)}/t{number}"))
    assert (await ask(alice, "needle"))["results"] == []
    words = server.daemon.engine.read("SELECT count(*) FROM search_words WHERE search_words MATCH 'needle'").fetchone()
    assert words[0] == 0


@pytest_twisted.ensureDeferred
async def test_encrypted_rooms_are_not_searched(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    await say(server, room, "alice", "needle")
    await alice.set_state(room, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
    assert await found(alice, "needle") == []


@pytest_twisted.ensureDeferred
async def test_the_index_is_filled_without_a_search_and_survives_a_restart(tmp_path, monkeypatch):
    monkeypatch.setattr("heichat_appliance.services.search_index.BACKLOG", 20)
    server = await Appliance.start(tmp_path, plugins=("demo_directory",), config=QUIET)
    room = await make_room(server, "alice")
    count = 0
    while not server.daemon.engine.read("SELECT count(*) FROM search_texts").fetchone()[0]:
        await say(server, room, "alice", f"needle {count}")
        count += 1
        assert count < 200, "nothing is indexed"
    await server.stop()
    server = await Appliance.start(tmp_path, plugins=("demo_directory",), config=QUIET)
    alice = await server.login("alice")
    await say(server, room, "alice", "needle last")
    assert (await ask(alice, "needle"))["count"] == count + 1
    await server.stop()


# -- who finds what ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("visibility", ["shared", "joined", "invited", "world_readable"])
@pytest_twisted.ensureDeferred
async def test_who_finds_what(server, visibility):
    there = await society(server, visibility)
    everything, until_leaving = ["after", "before"], ["before"]
    for name in ("alice", "bob"):
        assert [*await found(there[name], "after"), *await found(there[name], "before")] == everything
    for name in GONE:
        expected = everything if visibility == "world_readable" else until_leaving
        assert [*await found(there[name], "after"), *await found(there[name], "before")] == expected
    for name in OUTSIDE:
        for term in ("before", "after"):
            answer = await ask(there[name], term)
            assert (answer["results"], answer["count"]) == ([], 0), "not even the number may leak"


@pytest_twisted.ensureDeferred
async def test_who_joined_later_finds_what_the_visibility_says(server):
    bob = await server.login("bob")
    for visibility, expected in (("shared", ["late", "early"]), ("invited", ["late"]), ("joined", ["late"])):
        room = await make_room(server, "alice", visibility)
        await say(server, room, "alice", "early", tag="needle")
        await set_member(server, room, "bob", "invite", "alice")
        await set_member(server, room, "bob", "join", "bob")
        await say(server, room, "alice", "late")
        wanted = {"rooms": [room]}
        assert [*await found(bob, "late", filter=wanted), *await found(bob, "early", filter=wanted)] == expected
        around = await ask(bob, "late", filter=wanted, event_context={"before_limit": 20})
        assert ("early" in bodies(around["results"][0]["context"]["events_before"])) == (visibility == "shared")


@pytest_twisted.ensureDeferred
async def test_forgotten_rooms_and_ignored_people_are_not_found(server):
    there = await society(server)
    david, bob = there["david"], there["bob"]
    assert await found(david, "before") == ["before"]
    david.ok(await david.post(f"{there.path}/forget"))
    assert await found(david, "before") == []
    path = f"/user/{q(bob.user_id)}/account_data/m.ignored_user_list"
    bob.ok(await bob.put(path, {"ignored_users": {user("alice"): {}}}))
    assert await found(bob, "before") == []


# -- order, pages, groups ----------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_the_closest_come_first_unless_the_newest_are_wanted(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    await say(server, room, "alice", "needle")
    await say(server, room, "alice", "a needle in a stack of hay that goes on and on and on, with many other words")
    ranked = await ask(alice, "needle")
    assert [one["result"]["content"]["body"][:6] for one in ranked["results"]] == ["needle", "a need"]
    ranks = [one["rank"] for one in ranked["results"]]
    assert ranks[0] > ranks[1]
    recent = await ask(alice, "needle", order_by="recent")
    assert [one["result"]["content"]["body"][:6] for one in recent["results"]] == ["a need", "needle"]
    assert ranked["highlights"] == ["needle"] and ranked["count"] == 2


@pytest.mark.parametrize("order", ["recent", "rank"])
@pytest_twisted.ensureDeferred
async def test_pages_have_every_result_once(server, order):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    sent = [await say(server, room, "alice", "needle " * (1 + n % 3) + str(n)) for n in range(11)]
    criteria = {"order_by": order, "filter": {"limit": 4}}
    page, results = await ask(alice, "needle", **criteria), []
    while True:
        results += [one["result"]["event_id"] for one in page["results"]]
        if "next_batch" not in page:
            break
        await say(server, room, "alice", "a needle that came while paging")
        page = await ask(alice, "needle", page["next_batch"], **criteria)
    assert sorted(results) == sorted(sent)
    if order == "recent":
        assert results == list(reversed(sent))


@pytest_twisted.ensureDeferred
async def test_recent_results_go_on_past_what_is_looked_at_at_once(server, monkeypatch):
    monkeypatch.setattr("heichat_appliance.store.search.MAX_MATCHES", 5)
    monkeypatch.setattr("heichat_appliance.services.search.MAX_MATCHES", 5)
    alice = await server.login("alice")
    room = await make_room(server, "alice", bob="join")
    for name in ("alice",) * 3 + ("bob",) * 12:
        await say(server, room, name, "needle")
    criteria = {"order_by": "recent", "filter": {"senders": [alice.user_id]}}
    page, results = await ask(alice, "needle", **criteria), []
    for _ in range(10):
        results += page["results"]
        if "next_batch" not in page:
            break
        page = await ask(alice, "needle", page["next_batch"], **criteria)
    assert len(results) == 3


@pytest_twisted.ensureDeferred
async def test_groups_with_pages_of_their_own(server):
    alice = await server.login("alice")
    first = await make_room(server, "alice", bob="join")
    second = await make_room(server, "alice")
    for _ in range(4):
        await say(server, first, "bob", "needle")
    for _ in range(2):
        await say(server, second, "alice", "needle")
    criteria = {
        "order_by": "recent",
        "filter": {"limit": 3},
        "groupings": {"group_by": [{"key": "room_id"}, {"key": "sender"}]},
    }
    answer = await ask(alice, "needle", **criteria)
    groups = answer["groups"]
    assert [len(groups["room_id"][room]["results"]) for room in (second, first)] == [2, 1]
    assert [groups["room_id"][room]["order"] for room in (second, first)] == [1, 2]
    assert set(groups["sender"]) == {user("alice"), user("bob")}
    assert "next_batch" not in groups["room_id"][second]
    more = await ask(alice, "needle", groups["room_id"][first]["next_batch"], **criteria)
    assert {one["result"]["room_id"] for one in more["results"]} == {first}
    assert len(more["results"]) == 3
    shown = {one["result"]["event_id"] for one in answer["results"]}
    assert not shown & {one["result"]["event_id"] for one in more["results"]}
    assert "next_batch" not in more


@pytest_twisted.ensureDeferred
async def test_filters(server):
    alice = await server.login("alice")
    first = await make_room(server, "alice", bob="join")
    second = await make_room(server, "alice")
    await say(server, first, "alice", "needle 1")
    await say(server, first, "bob", "needle 2", url="mxc://chat.test/x")
    await say(server, second, "alice", "needle 3")
    await alice.set_state(second, "m.room.name", {"name": "needle 4"})
    for wanted, expected in (
        ({"rooms": [first]}, ["needle 2", "needle 1"]),
        ({"not_rooms": [first]}, ["needle 4", "needle 3"]),
        ({"senders": [user("bob")]}, ["needle 2"]),
        ({"not_senders": [user("alice")]}, ["needle 2"]),
        ({"types": ["m.room.name"]}, ["needle 4"]),
        ({"not_types": ["m.room.*"]}, []),
        ({"contains_url": True}, ["needle 2"]),
        ({"rooms": []}, []),
        ({"rooms": ["!elsewhere:chat.test"]}, []),
        ({"limit": 1}, ["needle 4"]),
    ):
        assert await found(alice, "needle", filter=wanted) == expected, wanted


@pytest_twisted.ensureDeferred
async def test_context_profiles_and_state(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    room = await alice.create_room(invite=[bob.user_id])
    await bob.join(room)
    for body in ("zero", "one", "needle", "three"):
        await bob.send(room, body)
    criteria = {"event_context": {"before_limit": 2, "after_limit": 5, "include_profile": True}, "include_state": True}
    answer = await ask(alice, "needle", **criteria)
    context = answer["results"][0]["context"]
    assert bodies(context["events_before"]) == ["zero", "one"], "in the order of the timeline"
    assert bodies(context["events_after"]) == ["three"]
    assert context["profile_info"][bob.user_id]["displayname"]
    page = await messages(alice, room, "b", from_=context["start"], limit=1)
    assert page["chunk"][0]["type"] == "m.room.member"
    assert {event["type"] for event in answer["state"][room]} >= {"m.room.create", "m.room.member"}
    plain = await ask(alice, "needle")
    assert "context" not in plain["results"][0] and "state" not in plain
    empty = await ask(alice, "needle", event_context={"before_limit": 0, "after_limit": 0})
    assert empty["results"][0]["context"]["events_before"] == []


# -- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "errcode", "word"),
    [
        ({}, "M_MISSING_PARAM", "search_categories"),
        ({"search_categories": []}, "M_BAD_JSON", "search_categories"),
        ({"search_categories": {"room_events": {}}}, "M_MISSING_PARAM", "search_term"),
        ({"search_categories": {"room_events": {"search_term": 1}}}, "M_BAD_JSON", "search_term"),
        ({"search_categories": {"room_events": {"search_term": "x", "keys": ["body"]}}}, "M_BAD_JSON", "keys"),
        ({"search_categories": {"room_events": {"search_term": "x", "keys": []}}}, "M_INVALID_PARAM", "keys"),
        ({"search_categories": {"room_events": {"search_term": "x", "order_by": "size"}}}, "M_BAD_JSON", "order_by"),
        (
            {"search_categories": {"room_events": {"search_term": "x", "filter": {"rooms": "!x"}}}},
            "M_INVALID_PARAM",
            "rooms",
        ),
        (
            {"search_categories": {"room_events": {"search_term": "x", "event_context": {"before_limit": -1}}}},
            "M_INVALID_PARAM",
            "before_limit",
        ),
        (
            {"search_categories": {"room_events": {"search_term": "x", "groupings": {"group_by": [{"key": "type"}]}}}},
            "M_BAD_JSON",
            "key",
        ),
        (
            {"search_categories": {"room_events": {"search_term": " ".join(f"w{n}" for n in range(31))}}},
            "M_INVALID_PARAM",
            "search_term",
        ),
    ],
)
@pytest_twisted.ensureDeferred
async def test_bad_searches(server, body, errcode, word):
    alice = await server.login("alice")
    answer = await alice.post("/search", body)
    refused(answer, 400, errcode, word)


@pytest.mark.parametrize(
    "token", ["x", "5b5d", "[1,2]", "5b312c2d312c22222c22225d", "00", "5b312c312c2274797065222c22225d"]
)
@pytest_twisted.ensureDeferred
async def test_bad_tokens(server, token):
    alice = await server.login("alice")
    body = {"search_categories": {"room_events": {"search_term": "x"}}}
    answer = await alice.post("/search", body, params={"next_batch": token})
    refused(answer, 400, "M_INVALID_PARAM", "next_batch")


@pytest_twisted.ensureDeferred
async def test_a_search_without_a_category_finds_nothing(server):
    alice = await server.login("alice")
    assert (await alice.post("/search", {"search_categories": {}})).json == {"search_categories": {}}


@pytest.mark.parametrize("seed", range(3))
@pytest_twisted.ensureDeferred
async def test_the_index_stays_whole_whatever_happens(server, seed):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    dice = Random(seed)
    odd = ("", "a\0b", "\n", "ä" * 3000, "👍🏽", "\u202e", "needle", "Needle needle", "x" * 20_000)
    sent, edits = [], []
    for number in range(60):
        what = dice.choice(("say", "say", "edit", "redact", "search"))
        if what == "say":
            sent.append(await say(server, room, "alice", dice.choice(odd)))
        elif what == "edit" and sent:
            edits.append(await say(server, room, "alice", "*", **edit(dice.choice(sent), dice.choice(odd))))
        elif what == "redact" and sent + edits:
            target = dice.choice(sent + edits)
            await alice.put(f"/rooms/{q(room)}/redact/{q(target)}/{number}")
        else:
            await ask(alice, "needle")
    shown = {one["event_id"]: one for one in await everything(alice, room)}
    expected = {event_id for event_id in sent if "needle" in text_of(shown[event_id]).lower()}
    results = (await ask(alice, "needle", filter={"limit": 50}))["results"]
    assert {one["result"]["event_id"] for one in results} == expected
    check = "INSERT INTO search_words (search_words, rank) VALUES ('integrity-check', 1)"
    await server.daemon.engine.write(lambda tx: tx.execute(check) and None)


async def everything(actor, room):
    return (await messages(actor, room, limit=500))["chunk"]


def text_of(event):
    """What a client shows of a message: its latest edit."""
    latest = event["unsigned"].get("m.relations", {}).get("m.replace")
    content = latest["content"]["m.new_content"] if latest else event["content"]
    return content.get("body", "")
