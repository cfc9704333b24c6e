"""Operations on what Matrix has beside sending and syncing: sliding sync, search, media, and keys."""

import os
from io import BytesIO
from typing import Any

from PIL import Image

from tests.encryption_kit import DeviceKit, PersonKit

from .measuring import Figure, MemoryWatch, Sizes, Stopwatch, close, percentiles, timed
from .words import WORDS
from .world import BUSY, MEMBERS, READERS, Site, in_parallel

#: What Element X asks of every room in its list, but for a few kinds that rooms do not have here.
LIST_STATE = [
    *([f"m.room.{kind}", ""] for kind in ("name", "encryption", "topic", "avatar", "canonical_alias", "power_levels")),
    *([f"m.room.{kind}", ""] for kind in ("join_rules", "tombstone", "create", "history_visibility")),
    *(["m.room.member", key] for key in ("$LAZY", "$ME")),
    *([f"m.space.{kind}", "*"] for kind in ("parent", "child")),
]
BIG, SMALL = 10 * 2**20, 20 * 2**10
KEY_OWNERS = 200
ONE_TIME_KEYS = 50


# -- sliding sync ----------------------------------------------------------------------------------------------------


async def sliding_sync(site: Site, sizes: Sizes) -> list[Figure]:
    """First answer of sliding sync: 20 of the 50 rooms of 100 that a person is in, as Element X asks for them."""
    return [await _sliding(site, "sliding_sync", READERS[: sizes.sliding_syncs])]


async def sliding_many(site: Site, sizes: Sizes) -> list[Figure]:
    """The same for a person in 1,000 rooms, again and again."""
    return [await _sliding(site, "sliding_many", [BUSY] * sizes.sliding_syncs)]


async def sliding_cold(site: Site, sizes: Sizes) -> list[Figure]:
    """The same as the first request of all after the server has started again, so that it remembers nothing."""
    found = []
    for _ in range(sizes.restarts):
        site.server.stop()
        await site.server.start()
        found.append(await _sliding(site, "sliding_cold", [BUSY]))
    latencies = [one.p50 for one in found]
    return [Figure("sliding_cold", sum(one.value for one in found) / len(found), *percentiles(latencies))]


async def _sliding(site: Site, key: str, names: list[str]) -> Figure:
    rooms = {"ranges": [[0, 19]], "timeline_limit": 1, "required_state": LIST_STATE}
    extensions = {name: {"enabled": True} for name in ("account_data", "receipts", "typing")}
    body = {"conn_id": "room-list", "lists": {"all_rooms": rooms}, "extensions": extensions}
    people = [site.person(name) for name in names]
    latencies = []

    async def ask(person):
        path = "/unstable/org.matrix.simplified_msc3575/sync?timeout=0"
        assert len((await person.call("POST", path, body))["rooms"]) == 20

    async with Stopwatch(site) as watch:
        for person in people:
            latencies.append(await timed(ask(person)))
    close(people)
    return Figure(key, watch.cpu_ms / len(people), *percentiles(latencies))


# -- search ----------------------------------------------------------------------------------------------------------


async def search(site: Site, sizes: Sizes) -> list[Figure]:
    """Searches as Element asks them, for words frequent and rare: in the archive, and in all rooms of 100 of a person."""
    member, reader = site.person(MEMBERS[1]), site.person(READERS[1])
    figures = [await _search(site, "search", member, {"rooms": [site.world.archive]}, list(WORDS)[:3], sizes.searches)]
    if site.world.reading_events >= 1000:  # Synapse has not so many messages there
        figures.append(await _search(site, "search_all", reader, {}, list(WORDS), sizes.searches))
        figures.append(await _search(site, "search_common", reader, {}, ["everywhere"], sizes.searches))
    close([member, reader])
    return figures


async def _search(site: Site, key: str, person: Any, rooms: dict, words: list[str], count: int) -> Figure:
    context = {"before_limit": 1, "after_limit": 1, "include_profile": True}
    latencies = []

    async def ask(word, order):
        wanted = {"search_term": word, "filter": {"limit": 10, **rooms}, "order_by": order, "event_context": context}
        answer = await person.call("POST", "/v3/search", {"search_categories": {"room_events": wanted}})
        assert answer["search_categories"]["room_events"]["results"], word

    await ask(words[0], "recent")
    async with Stopwatch(site) as watch:
        for turn in range(count * len(words)):
            latencies.append(await timed(ask(words[turn % len(words)], ("recent", "rank")[turn // len(words) % 2])))
    return Figure(key, watch.cpu_ms / len(latencies), *percentiles(latencies))


# -- media -----------------------------------------------------------------------------------------------------------


async def media(site: Site, sizes: Sizes) -> list[Figure]:
    """Uploads and downloads of one person, one after the other; for the large file also how much memory they take."""
    person, figures = site.person(MEMBERS[2]), []
    await person.download("/download/" + await person.upload(b"warm", "text/plain"))
    for title, length, count in (("small", SMALL, sizes.small_files), ("big", BIG, sizes.big_files)):
        places, sending, fetching = [], [], []

        async def upload(data, places=places):
            places.append(await person.upload(data, "application/octet-stream"))

        async def download(place, length=length):
            assert len(await person.download(f"/download/{place}")) == length

        async with MemoryWatch(site.server) as up_memory, Stopwatch(site) as up:
            for _ in range(count):
                sending.append(await timed(upload(os.urandom(length))))
        async with MemoryWatch(site.server) as down_memory, Stopwatch(site) as down:
            for place in places:
                fetching.append(await timed(download(place)))
        figures.append(Figure(f"upload_{title}", up.cpu_ms / count, *percentiles(sending)))
        figures.append(Figure(f"download_{title}", down.cpu_ms / count, *percentiles(fetching)))
        if length == BIG:
            figures += [Figure("upload_memory", up_memory.mib), Figure("download_memory", down_memory.mib)]
    close([person])
    return figures


async def photo(site: Site, sizes: Sizes) -> list[Figure]:
    """A photo of 12 megapixels is uploaded and its thumbnail of 800 x 600 fetched: whenever a server makes that."""
    person, latencies = site.person(MEMBERS[3]), []
    picture = BytesIO()
    Image.effect_noise((4000, 3000), 60).convert("RGB").save(picture, "JPEG", quality=85)

    async def post():
        # What follows the end of the image makes it another file.
        place = await person.upload(picture.getvalue() + os.urandom(16), "image/jpeg")
        assert await person.download(f"/thumbnail/{place}?width=800&height=600&method=scale")

    async with Stopwatch(site) as watch:
        for _ in range(sizes.photos):
            latencies.append(await timed(post()))
    close([person])
    return [Figure("photo", watch.cpu_ms / sizes.photos, *percentiles(latencies))]


# -- keys ------------------------------------------------------------------------------------------------------------


async def key_query(site: Site, sizes: Sizes) -> list[Figure]:
    """The keys of the 200 people of a room, each with a device and cross-signing keys, as a client asks that joins it."""
    await _own_keys(site)
    person, latencies = site.person(MEMBERS[0]), []
    body = {"device_keys": {user_id: [] for user_id in site.devices}}

    async def ask():
        answer = await person.call("POST", "/v3/keys/query", body)
        assert len(answer["device_keys"]) == len(answer["self_signing_keys"]) == KEY_OWNERS

    await ask()
    async with Stopwatch(site) as watch:
        for _ in range(sizes.key_queries):
            latencies.append(await timed(ask()))
    close([person])
    return [Figure("key_query", watch.cpu_ms / sizes.key_queries, *percentiles(latencies))]


async def key_claims(site: Site, sizes: Sizes) -> list[Figure]:
    """One one-time key is claimed, of one person after the other."""
    await _own_keys(site)
    person, latencies, owners = site.person(MEMBERS[0]), [], list(site.devices.items())

    async def claim():
        user_id, device_id = owners[site.claimed % KEY_OWNERS]
        site.claimed += 1
        body = {"one_time_keys": {user_id: {device_id: "signed_curve25519"}}}
        assert (await person.call("POST", "/v3/keys/claim", body))["one_time_keys"][user_id][device_id]

    async with Stopwatch(site) as watch:
        for _ in range(sizes.key_claims):
            latencies.append(await timed(claim()))
    close([person])
    return [Figure("key_claim", watch.cpu_ms / sizes.key_claims, *percentiles(latencies))]


async def _own_keys(site: Site) -> None:
    """Uploads the keys of 200 people, once on each site."""

    async def upload(name):
        person = site.person(name)
        device_id = (await person.call("GET", "/v3/account/whoami"))["device_id"]
        device, owner = DeviceKit(person.user_id, device_id), PersonKit(person.user_id)
        keys = {"device_keys": device.device_keys(), "one_time_keys": device.one_time_keys(ONE_TIME_KEYS)}
        await person.call("POST", "/v3/keys/upload", keys)
        await person.call("POST", "/v3/keys/device_signing/upload", owner.upload())
        signed = owner.self_signing.sign(keys["device_keys"])
        await person.call("POST", "/v3/keys/signatures/upload", {person.user_id: {device_id: signed}})
        site.devices[person.user_id] = device_id
        close([person])

    if not site.devices:
        await in_parallel(4, map(upload, MEMBERS[:KEY_OWNERS]))
