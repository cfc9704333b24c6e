"""The interfaces that plugins provide. They are kept small on purpose: a plugin is one module of
`heichat_appliance.plugins` holding one `IExtension` provider."""

from __future__ import annotations

from dataclasses import dataclass

from zope.interface import Attribute, Interface


class IExtension(Interface):
    """What `twisted.plugin` finds. The configuration names extensions; only those that are named get built. The
    docstring of the provider's class introduces its section in the example configuration."""

    name = Attribute("str: its name in `[plugins] enabled`, and the name of its own section of the configuration")
    options = Attribute("tuple[config.Option, ...]: the declared keys of that section")

    def build(settings, host):
        """Make the working object from the parsed section and from what the appliance offers (`host`).

        The result provides one or more of the interfaces below. It does no I/O yet: that begins with `start()`, for
        those that have one. Raises `config.ConfigErrors` for settings that contradict each other."""


@dataclass(frozen=True, slots=True)
class Person:
    """A person as the directory knows them. `uni_id` is spelt as in the directory; `mail` is private."""

    uni_id: str
    display_name: str | None
    mail: str | None


class DirectoryUnavailable(Exception):
    """No directory answered in time. Its text is for logs and operators and names no person and no password."""


class IIdentity(Interface):
    """Who people are. Nothing here blocks the reactor, and every Deferred fires within the directory's time-out."""

    def authenticate(uni_id, password):
        """Deferred[Person | None]: None for an unknown person and for a wrong password alike (callers cannot tell
        which); fails with `DirectoryUnavailable`."""

    def look_up(uni_id):
        """Deferred[Person | None]: the one person with this Uni-ID in any case; fails with `DirectoryUnavailable`."""

    def search(term, limit):
        """Deferred[list[Person]]: at most `limit` people whose name or Uni-ID matches, best first; fails with
        `DirectoryUnavailable`."""

    def check():
        """Deferred[list[str]]: for `heichat-admin doctor`, a line for each thing tried, with its time; fails with
        `DirectoryUnavailable` whose text holds those lines."""

    def start():
        """Called once before the first call above."""

    def stop():
        """Called once at the end; calls under way fail with `DirectoryUnavailable`. Never waits for a server."""


class IEventPolicy(Interface):
    """What may happen in rooms. Asked inside the write that makes an event, so it must be quick and do no I/O."""

    def check_event(draft):
        """Raise `errors.MatrixError` if this event (a `services.timeline.Draft`) may not be. It is asked about every
        event of every room, whichever way it comes. Any other exception denies the event, too."""


class IRoomPolicy(Interface):
    """What rooms this server has."""

    def check_publish(user_id, room_id):
        """Raise `errors.MatrixError` if this person may not publish this room (None: a new one) to the room directory.
        What may not be published is not listed either."""

    def preset_content(type, content):
        """What becomes of a state event that a preset brings along or that is said beside a preset: its content, or a
        stricter one. For what clients say out of habit; `check_event` still decides about the result."""


class IConnected(Interface):
    """A plugin that uses the appliance's services."""

    def connect(host):
        """Called once all services are made and before anything runs; `host` is the `app.Appliance`."""


class IRequestGate(Interface):
    """May this person do this now?"""

    def check_request(request):
        """Raise `errors.MatrixError` if not. Asked for each request with a login whose route has `Gate.CONSENT`."""


class IPages(Interface):
    """Pages of its own."""

    def routes():
        """list[http.routing.Route]."""
