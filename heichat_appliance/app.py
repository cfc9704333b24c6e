"""The composition root: builds every part with plain constructor arguments, starts and stops them in order."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from zope.interface import providedBy

from heichat_appliance import __version__
from heichat_appliance.calls import setup as calls_setup
from heichat_appliance.clock import Clock, SystemClock
from heichat_appliance.config import Config, ConfigErrors
from heichat_appliance.db import database
from heichat_appliance.db.engine import Engine
from heichat_appliance.extension import (
    IConnected,
    IEventPolicy,
    IIdentity,
    IPages,
    IRequestGate,
    IRoomPolicy,
)
from heichat_appliance.http import absent as absent_routes
from heichat_appliance.http import account as account_routes
from heichat_appliance.http import account_data as account_data_routes
from heichat_appliance.http import aliases as alias_routes
from heichat_appliance.http import devices as device_routes
from heichat_appliance.http import element_web
from heichat_appliance.http import ephemeral as ephemeral_routes
from heichat_appliance.http import filters as filter_routes
from heichat_appliance.http import history as history_routes
from heichat_appliance.http import key_backup as key_backup_routes
from heichat_appliance.http import keys as key_routes
from heichat_appliance.http import landing as landing_routes
from heichat_appliance.http import media as media_routes
from heichat_appliance.http import membership as membership_routes
from heichat_appliance.http import openid as openid_routes
from heichat_appliance.http import pages as page_routes
from heichat_appliance.http import profiles as profile_routes
from heichat_appliance.http import pushers as pusher_routes
from heichat_appliance.http import pushrules as push_rule_routes
from heichat_appliance.http import relations as relation_routes
from heichat_appliance.http import rooms as room_routes
from heichat_appliance.http import search as search_routes
from heichat_appliance.http import send as send_routes
from heichat_appliance.http import sessions as session_routes
from heichat_appliance.http import sliding_sync as sliding_sync_routes
from heichat_appliance.http import spaces as space_routes
from heichat_appliance.http import sync as sync_routes
from heichat_appliance.http import to_device as to_device_routes
from heichat_appliance.http import try_client as try_routes
from heichat_appliance.http import url_previews as url_preview_routes
from heichat_appliance.http import user_directory as user_directory_routes
from heichat_appliance.http import versions as version_routes
from heichat_appliance.http import voip as voip_routes
from heichat_appliance.http.admin_socket import AdminSocket
from heichat_appliance.http.routing import Gate, Route
from heichat_appliance.http.server import HTTPFactory, Limits
from heichat_appliance.http.site import Site
from heichat_appliance.notify import Notifier
from heichat_appliance.outgoing import Outgoing
from heichat_appliance.plugins import extensions
from heichat_appliance.ratelimit import RateLimiter
from heichat_appliance.services.account_data import AccountData, Filters
from heichat_appliance.services.accounts import Accounts
from heichat_appliance.services.aliases import Aliases
from heichat_appliance.services.bundles import Bundles
from heichat_appliance.services.cross_signing import CrossSigning
from heichat_appliance.services.dehydrated import Dehydrated
from heichat_appliance.services.device_lists import DeviceLists
from heichat_appliance.services.ephemeral import Typing
from heichat_appliance.services.frozen import FrozenRooms
from heichat_appliance.services.gap import Gaps
from heichat_appliance.services.history import History
from heichat_appliance.services.invitees import Invitees
from heichat_appliance.services.key_backup import KeyBackup
from heichat_appliance.services.keys import Keys
from heichat_appliance.services.login import Login
from heichat_appliance.services.media import Media
from heichat_appliance.services.members import Members
from heichat_appliance.services.membership import Membership
from heichat_appliance.services.notifications import Notifications
from heichat_appliance.services.openid import OpenId
from heichat_appliance.services.passwords import Passwords
from heichat_appliance.services.people import Standings
from heichat_appliance.services.presence import Presence
from heichat_appliance.services.profiles import Profiles
from heichat_appliance.services.push import Push
from heichat_appliance.services.pushers import Pushers
from heichat_appliance.services.pushrules import PushRules
from heichat_appliance.services.reading import Reading
from heichat_appliance.services.receipts import Receipts
from heichat_appliance.services.relations import Relations
from heichat_appliance.services.render import Renderer
from heichat_appliance.services.reports import Reports
from heichat_appliance.services.room_parts import RoomParts
from heichat_appliance.services.room_reads import RoomReads
from heichat_appliance.services.rooms import Rooms
from heichat_appliance.services.search import Search
from heichat_appliance.services.search_index import SearchIndex
from heichat_appliance.services.send import Sender
from heichat_appliance.services.sessions import Sessions
from heichat_appliance.services.signing import load_signer
from heichat_appliance.services.sliding_sync import SlidingSync
from heichat_appliance.services.spaces import Spaces
from heichat_appliance.services.sync import Sync
from heichat_appliance.services.sync_rooms import RoomSections
from heichat_appliance.services.thumbnails import Thumbnails
from heichat_appliance.services.timeline import Timeline
from heichat_appliance.services.to_device import ToDevice
from heichat_appliance.services.uia import Uia
from heichat_appliance.services.unread import Unread
from heichat_appliance.services.upgrade import Upgrade
from heichat_appliance.services.url_previews import UrlPreviews
from heichat_appliance.services.user_directory import UserDirectory
from heichat_appliance.services.wakeups import Wakeups
from heichat_appliance.tls import Certificates

log = Logger()

#: Seconds in which requests in work must be answered and clients must have closed, when the daemon stops.
LAST_ANSWERS = 2


class Appliance:
    """The whole server over one data folder."""

    def __init__(self, config: Config, reactor: Any, clock: Clock | None = None) -> None:
        """Open the data folder and build everything; nothing listens yet. Raises DatabaseRefused, ConfigErrors."""
        server = config["server"]
        self.config = config
        self.demo = config.demo
        self.reactor = reactor
        self.clock = clock or SystemClock()
        self.server_name: str = server.name
        self.data_dir: Path = server.data_dir
        self.tls = Certificates()
        self.plugins = self._build_plugins()
        self.identity: Any = self._identity()
        self._lock = database.FolderLock(self.data_dir)
        try:
            self.database_path, self.database_version = database.prepare(self.data_dir, self.server_name)
            self.signer = load_signer(self.data_dir, self.server_name)
            self.calls = calls_setup.build(config, self.data_dir, self.clock, reactor, self.tls)
            self.engine = Engine(self.database_path, reactor, durability=config["storage"].durability)
        except BaseException:
            self._lock.release()
            raise
        self.members = Members(self.engine)
        self.notifier = Notifier(self.members.of, self.engine.position)
        self.engine.announce = self.notifier.publish
        self.limits = self._build_limits()
        self._build_services()
        self.site = Site(
            self._routes(), self.sessions, self.limits, self._gates(), trusted_proxies=server.trusted_proxies
        )
        limits = Limits(
            connections=config["limits"].connections,
            connections_per_address=config["limits"].connections_per_address,
            unlimited_addresses=Limits().unlimited_addresses.union(server.trusted_proxies),
        )
        self.factory = HTTPFactory(self.site, reactor, limits=limits)
        self.ports: list[IListeningPort] = []
        self.admin = AdminSocket(self)

    # -- building ------------------------------------------------------------------------------------------------

    def _build_plugins(self) -> dict[str, Any]:
        known, built, errors = extensions(), {}, []
        for name in self.config["plugins"].enabled:
            if name not in known:
                errors.append(
                    f"[plugins] enabled names {name}, which is not installed (hint: known are {', '.join(sorted(known))})"
                )
            else:
                built[name] = known[name].build(self.config[name], self)
        if errors:
            raise ConfigErrors(errors)
        return built

    def providers(self, interface: Any) -> list[Any]:
        """The enabled plugins that provide `interface`, in the configured order."""
        return [plugin for plugin in self.plugins.values() if interface in providedBy(plugin)]

    def _build_limits(self) -> dict[str, RateLimiter]:
        limits = self.config["limits"]
        names = [option.removesuffix("_rate") for option in limits if option.endswith("_rate")]
        return {
            name: RateLimiter(self.clock, limits[f"{name}_rate"] if limits.enabled else 0, limits[f"{name}_burst"])
            for name in names
        }

    def _build_services(self) -> None:
        config = self.config
        self.accounts = Accounts(self.engine, self.clock, self.server_name, config["server"].admins)
        self.sessions = Sessions(
            self.engine, self.clock, self.accounts, self.reactor, config["accounts"].access_token_lifetime
        )
        passwords = Passwords(
            self.identity, self.server_name, self.limits["login_failures"], self.limits["address_failures"]
        )
        self.login = Login(passwords, self.accounts, self.sessions)
        self.uia = Uia(passwords, self.accounts, self.clock)
        self.renderer = Renderer(self.engine)
        self.frozen_rooms = FrozenRooms(self.engine, self.clock)
        policies = [policy.check_event for policy in (self.frozen_rooms, *self.providers(IEventPolicy))]
        self.timeline = Timeline(self.signer, self.clock, policies)
        self.timeline.redacting_quoted = self.renderer.redacting_quoted
        self._build_room_services()
        self.wakeups = Wakeups(self.engine, self.reactor)
        self.typing = Typing(self.engine, self.reactor, self.wakeups)
        self.presence = Presence(self.engine, self.clock, self.reactor, config["server"].presence)
        self.push_rules = PushRules(self.engine)
        self.account_data = AccountData(self.engine, self.push_rules)
        self.filters = Filters(self.engine)
        self.receipts = Receipts(self.engine, self.clock, self.wakeups)
        self.profiles = Profiles(
            self.engine,
            self.timeline,
            directory=self.identity if config["accounts"].display_name == "directory" else None,
            changed=self.presence.profile_changed,
        )
        self.user_directory = UserDirectory(self.engine, self.reactor, self.server_name, self.identity)
        self.unread = Unread(self.engine, self.members)
        self.standings = Standings(self.engine, self.members)
        self._build_readers()
        self.room_parts = RoomParts(self.engine, self.clock, self.renderer, self.bundles)
        self.room_sections = RoomSections(self.engine, self.room_parts, self.unread, self.typing)
        gaps = Gaps(self.engine)
        self.timeline.added = gaps.added
        self.notifier.listeners += [self.members.committed, gaps.committed]
        self.sync = Sync(
            self.engine, self.reactor, self.clock, self.notifier, gaps, self.room_sections, self.standings,
            self.push_rules.content, self.presence,
        )  # fmt: skip
        self.sliding_sync = SlidingSync(
            self.engine, self.reactor, self.clock, self.notifier, gaps, self.room_parts, self.unread, self.standings,
            self.typing, self.presence, self.push_rules.content,
        )  # fmt: skip
        self.keys = Keys(self.engine)
        self.cross_signing = CrossSigning(self.engine, self.uia)
        self.device_lists = DeviceLists(self.engine)
        self.dehydrated = Dehydrated(self.engine, self.clock)
        self.to_device = ToDevice(self.engine, self.clock, self.limits["to_device"])
        self.key_backup = KeyBackup(self.engine)
        self.media = Media(
            self.engine, self.clock, self.reactor, self.server_name, self.data_dir / "media",
            max_size=config["limits"].max_upload_size, quota=config["media"].quota_per_person,
        )  # fmt: skip
        self.thumbnails = Thumbnails(self.media.files, self.reactor)
        self.url_previews = self._build_url_previews()
        outgoing = Outgoing(self.reactor, allow_private=config["push"].allow_private)
        self.push = Push(self.engine, self.clock, self.reactor, self.unread, self.accounts, outgoing)
        self.pushers = Pushers(self.engine, self.clock, allow_private=outgoing.allow_private, changed=self.push.changed)
        self.notifier.listeners += [
            self._forget_people,
            self.typing.committed,
            self.search_index.committed,
            self.push.committed,
        ]
        self.login.every_login.append(self.profiles.logged_in)
        self.pages = page_routes.build(config)
        for plugin in self.providers(IConnected):
            plugin.connect(self)
        self.element = element_web.build(self)

    def _build_room_services(self) -> None:
        """What changes rooms."""
        engine, timeline, name, policies = self.engine, self.timeline, self.server_name, self.providers(IRoomPolicy)
        self.invitees = Invitees(engine, name, self.identity)
        self.membership = Membership(engine, timeline, self.invitees)
        self.sender = Sender(engine, timeline, self.membership, self.accounts)
        self.aliases = Aliases(engine, timeline, self.accounts, policies, name)
        self.rooms = Rooms(
            engine, timeline, self.membership, self.invitees, self.aliases, policies, name,
            encrypt_direct=self.config["rooms"].encryption_default != "off",
        )  # fmt: skip
        self.upgrade = Upgrade(engine, timeline, self.membership, self.aliases, policies, name)
        self.reports = Reports(engine, self.clock)

    def _build_url_previews(self) -> UrlPreviews | None:
        media = self.config["media"]
        if not media.url_previews:
            return None
        outgoing = Outgoing(self.reactor, allow_private=media.url_previews_private)
        return UrlPreviews(outgoing, self.clock, self.reactor)

    def _build_readers(self) -> None:
        """What reads rooms, beside sync."""
        self.bundles = Bundles(self.engine, self.clock, self.renderer)
        self.reading = Reading(self.engine, self.clock, self.renderer, self.standings, self.bundles)
        self.history = History(self.reading)
        self.room_reads = RoomReads(self.reading)
        self.relations = Relations(self.reading)
        self.spaces = Spaces(self.engine)
        self.notifications = Notifications(self.reading, self.unread)
        self.search_index = SearchIndex(self.engine)
        self.search = Search(self.reading, self.history, self.search_index)

    def _forget_people(self, position: int, rooms: set[str], users: set[str]) -> None:
        """What is kept in memory of these people may not be right any more."""
        for user_id in users:
            self.standings.forget(user_id)
            self.unread.forget_user(user_id)

    def _identity(self) -> Any:
        found = self.providers(IIdentity)
        if len(found) != 1:
            raise ConfigErrors(
                ["[plugins] enabled must name exactly one plugin that knows people (hint: ldap_identity)"]
            )
        return found[0]

    def _routes(self) -> list[Route]:
        server = self.config["server"]
        return [
            *page_routes.routes(),
            *landing_routes.routes(self, self.element),
            *element_web.routes(self.element),
            *self._try_routes(),
            *(route for plugin in self.providers(IPages) for route in plugin.routes()),
            *sync_routes.routes(self.sync, self.engine),
            *sliding_sync_routes.routes(self.sliding_sync),
            *send_routes.routes(self.sender, self.presence.acted),
            *history_routes.routes(self.history, self.room_reads, self.notifications),
            *relation_routes.routes(self.relations),
            *search_routes.routes(self.search),
            *space_routes.routes(self.spaces),
            *membership_routes.routes(self.membership),
            *room_routes.routes(self.rooms, self.upgrade, self.reports),
            *alias_routes.routes(self.aliases, self.server_name),
            *session_routes.routes(self.login, self.sessions, self.server_name),
            *device_routes.routes(self.sessions, self.uia),
            *account_routes.routes(self.accounts, self.sessions),
            *account_data_routes.routes(self.account_data),
            *filter_routes.routes(self.filters),
            *push_rule_routes.routes(self.push_rules),
            *pusher_routes.routes(self.pushers),
            *ephemeral_routes.routes(self.typing, self.presence, self.receipts),
            *profile_routes.routes(self.profiles),
            *user_directory_routes.routes(self.user_directory),
            *key_routes.routes(self.keys, self.cross_signing, self.device_lists, self.dehydrated),
            *key_backup_routes.routes(self.key_backup),
            *to_device_routes.routes(self.to_device),
            *media_routes.routes(
                self.media, self.thumbnails, unauthenticated=self.config["media"].unauthenticated_downloads
            ),
            *(url_preview_routes.routes(self.url_previews) if self.url_previews else ()),
            *(voip_routes.routes(self.calls.offer) if self.calls else ()),
            *absent_routes.routes(previews=self.url_previews is not None, calls=self.calls is not None),
            *openid_routes.routes(OpenId(self.clock, self.server_name)),
            *version_routes.routes(
                self.accounts,
                public_url=server.public_url,
                display_name_is_free=self.config["accounts"].display_name == "free",
                support_email=server.support_email,
                well_known=version_routes.element_discovery(
                    self.config["web"].conference_url,
                    relayed_calls=self.calls is not None,
                    encryption_default=self.config["rooms"].encryption_default,
                ),
            ),
        ]

    def _try_routes(self) -> list[Route]:
        if not self.demo:
            return []
        return try_routes.routes(getattr(self.identity, "people", ()), self.config["web"].brand, self.server_name)

    def _gates(self) -> list[Any]:
        consent = [(Gate.CONSENT, plugin.check_request) for plugin in self.providers(IRequestGate)]
        return [*account_routes.gates(self.accounts), *consent]

    # -- running -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the plugins, listen, and say in order what runs."""
        for plugin in self.plugins.values():
            if hasattr(plugin, "start"):
                plugin.start()
        self.sessions.start()
        self.presence.start()
        self.profiles.start()
        self.media.start()
        self.thumbnails.start()
        await self.push.start()
        await self.key_backup.start()
        for endpoint in self.config["server"].listen:
            self.ports.append(await self.tls.endpoint(self.reactor, endpoint).listen(self.factory))
        if self.calls:
            await self.calls.start()
        self.admin.start()
        for line in self.describe():
            log.info("{line}", line=line)

    def describe(self) -> Iterable[str]:
        """What the start prints: version, configuration, database, listeners, plugins."""
        yield f"heiCHAT {__version__} for {self.server_name}"
        yield f"configuration: {self.config.source}"
        yield f"database: {self.database_path}, version {self.database_version}, durability {self.config['storage'].durability}"
        for port in self.ports:
            yield f"listening: {port.getHost()}"
        for certificate in self.tls.describe():
            yield f"TLS: certificate for {certificate}"
        if self.calls:
            yield from self.calls.describe()
        yield f"plugins: {', '.join(self.plugins)}"

    async def stop(self) -> None:
        """Stop accepting, answer waiting syncs, finish the queue, close the database."""
        for port in self.ports:
            await maybeDeferred(port.stopListening)
        if self.calls:
            await self.calls.stop()
        await self.admin.stop()
        self.sync.stop()
        self.sliding_sync.stop()
        self.presence.stop()
        self.typing.stop()
        self.wakeups.stop()
        self.media.release_waiting()
        await self.factory.shut_down().addTimeout(LAST_ANSWERS, self.reactor)
        for plugin in self.plugins.values():
            if hasattr(plugin, "stop"):
                plugin.stop()
        await self.push.stop()
        if self.url_previews:
            await self.url_previews.stop()
        self.thumbnails.stop()
        self.media.stop()
        await self.sessions.stop()
        await self.engine.close()
        self._lock.release()
        log.info("heiCHAT has stopped")
