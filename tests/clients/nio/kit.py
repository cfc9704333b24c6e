"""People with matrix-nio: log in, sync all the time, and wait for what they should see."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any, TypeVar
from urllib.parse import urljoin

import aiohttp
from nio import (
    AsyncClient,
    AsyncClientConfig,
    EphemeralEvent,
    ErrorResponse,
    Event,
    KeysQueryResponse,
    LoginResponse,
    MatrixRoom,
    Response,
    SyncError,
    SyncResponse,
)

T = TypeVar("T")
SECONDS = 20


def step(text: str) -> None:
    """Tell what comes next."""
    print(text, flush=True)


async def restart_server(how: str = "restart") -> None:
    """Ask whoever runs this journey for a restart of the server (`how`: also "kill", for kill -9), and wait for it."""
    step(f"@{how}")
    answer = await asyncio.to_thread(sys.stdin.readline)
    assert answer == "restarted\n", repr(answer)


def good(response: Response | ErrorResponse) -> Any:
    """A response that must not be an error."""
    assert not isinstance(response, ErrorResponse), response
    return response


class Person:
    """Somebody with nio on one device. `seen`: all events of timelines with their room, in the order of arrival.

    With `store`, a folder for keys, the device can encrypt.
    """

    def __init__(self, url: str, uni_id: str, store: str = "") -> None:
        config = AsyncClientConfig(encryption_enabled=bool(store), max_limit_exceeded=0, request_timeout=30)
        self.url = url
        self.uni_id = uni_id
        self.client = AsyncClient(url, uni_id, store_path=store, config=config)
        self.seen: list[tuple[str, Event]] = []
        self.ephemeral: list[tuple[str, EphemeralEvent]] = []
        self.first: SyncResponse | None = None
        self._failure: SyncError | None = None
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.client.add_event_callback(self._on_event, Event)
        self.client.add_ephemeral_callback(self._on_ephemeral, EphemeralEvent)
        self.client.add_response_callback(self._on_sync, SyncResponse)
        self.client.add_response_callback(self._on_keys, KeysQueryResponse)
        self.client.add_response_callback(self._on_failure, SyncError)

    async def log_in(self) -> None:
        """Log in with the demo password."""
        response = await self.client.login(f"{self.uni_id}-demo", device_name="journey of nio")
        assert isinstance(response, LoginResponse), response
        assert response.user_id.startswith(f"@{self.uni_id}:")

    def start(self) -> None:
        """Sync from now on."""
        self._task = asyncio.create_task(self.client.sync_forever(timeout=30_000))

    async def close(self) -> None:
        """Stop syncing and close the connections."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.client.close()

    async def until(self, find: Callable[[], T], what: str) -> T:
        """Look again after each sync, and when keys came, until `find` finds something."""
        step(f"  {self.uni_id} waits: {what}")
        end = asyncio.get_running_loop().time() + SECONDS
        while True:
            self._news.clear()
            assert self._failure is None, self._failure
            if self._task is not None and self._task.done():
                self._task.result()
            found = find()
            if found:
                return found
            left = end - asyncio.get_running_loop().time()
            try:
                await asyncio.wait_for(self._news.wait(), left)
            except TimeoutError:
                print([getattr(e, "body", e) for _, e in self.seen])
                raise AssertionError(f"{self.uni_id} did not see within {SECONDS} s: {what}") from None

    def find(self, room_id: str, kind: type[T], test: Callable[[T], object] = lambda event: True) -> T | None:
        """The first event of a class in a room that passes the test."""
        for room, event in self.seen:
            if room == room_id and isinstance(event, kind) and test(event):
                return event
        return None

    def find_ephemeral(self, room_id: str, kind: type[T], test: Callable[[T], object]) -> T | None:
        """The same for typing and receipts; the latest."""
        for room, event in reversed(self.ephemeral):
            if room == room_id and isinstance(event, kind):
                return event if test(event) else None
        return None

    async def say(self, room_id: str, text: str, **content: Any) -> str:
        """Send a text message; the event ID."""
        content = {"msgtype": "m.text", "body": text, **content}
        sent = await self.client.room_send(room_id, "m.room.message", content, ignore_unverified_devices=True)
        return good(sent).event_id

    async def _on_event(self, room: MatrixRoom, event: Event) -> None:
        self.seen.append((room.room_id, event))

    async def _on_ephemeral(self, room: MatrixRoom, event: EphemeralEvent) -> None:
        self.ephemeral.append((room.room_id, event))

    async def _on_sync(self, response: SyncResponse) -> None:
        self.first = self.first or response
        self._news.set()

    async def _on_keys(self, response: KeysQueryResponse) -> None:
        self._news.set()

    async def _on_failure(self, response: SyncError) -> None:
        self._failure = response
        self._news.set()


class Form(HTMLParser):
    """The form of a page: where it goes, its hidden fields, the text on its button."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.method = self.action = self.button = ""
        self.fields: dict[str, str] = {}
        self._in_button = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.method, self.action = values["method"], values["action"]
        elif tag == "input":
            self.fields[values["name"]] = values["value"]
        self._in_button = tag == "button"

    def handle_data(self, data: str) -> None:
        if self._in_button:
            self.button += data

    def handle_endtag(self, tag: str) -> None:
        self._in_button = False


async def agree_in_browser(link: str) -> str:
    """Open the page with the terms in German, press "Einverstanden", and return the page that follows."""
    async with aiohttp.ClientSession(headers={"Accept-Language": "de-DE,de;q=0.9"}) as browser:
        async with browser.get(link) as answer:
            assert answer.status == 200, (answer.status, await answer.text())
            form = Form(await answer.text())
        assert form.button.strip() == "Einverstanden", form.button
        assert form.method.lower() == "post"
        headers = {
            "Origin": f"{answer.url.scheme}://{answer.url.host}:{answer.url.port}",
            "Sec-Fetch-Site": "same-origin",
        }
        async with browser.post(urljoin(link, form.action), data=form.fields, headers=headers) as answer:
            assert answer.status == 200, (answer.status, await answer.text())
            return await answer.text()
