"""The declared sections of the configuration. A plugin's section is declared by the plugin (`IExtension.options`)."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from heichat_appliance.config import (
    REQUIRED,
    Option,
    Section,
    boolean,
    choice,
    endpoints,
    integer,
    lines,
    number,
    path,
    server_name,
    size,
    text,
    url,
)

SERVER = Section(
    "server",
    "The server itself.",
    (
        Option(
            "name",
            server_name,
            REQUIRED,
            "The part after the colon in user IDs. It is kept in the database and can never be changed.",
            "the name people will see, e.g. matrix-im.example.org",
            "matrix-im.example.org",
        ),
        Option(
            "public_url",
            url,
            REQUIRED,
            "The address under which clients reach this server.",
            "https:// and the server's host name",
            "https://matrix-im.example.org",
        ),
        Option(
            "listen",
            endpoints,
            ("tcp:8008:interface=127.0.0.1",),
            "Where to listen: Twisted endpoint strings, one per line.",
            "ssl:443:privateKey=/etc/heichat/key.pem:certKey=/etc/heichat/chain.pem, or tcp: behind a proxy",
        ),
        Option("data_dir", path, REQUIRED, "Folder of the database, the media and the signing key.", "",
               "/var/lib/heichat"),
        Option("admins", lines, (), "Uni-IDs of the people who may use the admin API."),
        Option(
            "trusted_proxies",
            lines,
            (),
            "Addresses of reverse proxies whose X-Forwarded-For is believed.",
            "127.0.0.1 if nginx runs on the same machine",
        ),
        Option("presence", boolean, True, "Whether people see each other's presence (online, away)."),
        Option("support_email", text, None, "Address that clients show for help with this server."),
    ),
)  # fmt: skip

PLUGINS = Section(
    "plugins",
    "The plugins to use, in this order: one that knows people (ldap_identity), and the rules of the service.",
    (
        Option("enabled", lines, ("ldap_identity", "terms_consent", "closed_rooms"),
               "Names of plugins; those that are not named do nothing."),
    ),
)  # fmt: skip

STORAGE = Section(
    "storage",
    "The database.",
    (
        Option(
            "durability",
            choice("full", "normal"),
            "full",
            "full: what was acknowledged survives a power failure; normal: it survives a crash of the process only.",
        ),
    ),
)

LIMITS = Section(
    "limits",
    "How much one person or one address may do. A rate is so many per second in the long run; a burst may come at once.",
    (
        Option("enabled", boolean, True, "Switches all rates off for tests and benchmarks."),
        Option("send_rate", number(0.01, 1e6), 10.0, "Messages and state changes per person and second."),
        Option("send_burst", integer(1, 10**6), 50, "Messages at once."),
        Option("write_rate", number(0.01, 1e6), 20.0, "Other changes (receipts, typing, account data, keys) per person."),
        Option("write_burst", integer(1, 10**6), 200, "Other changes at once."),
        Option("to_device_rate", number(0.01, 1e6), 100.0, "Messages to devices (encryption keys) per person and second."),
        Option("to_device_burst", integer(2500, 10**6), 20_000, "Messages to devices at once."),
        Option("read_rate", number(0.01, 1e6), 50.0, "Reading requests per person and second."),
        Option("read_burst", integer(1, 10**6), 500, "Reading requests at once."),
        Option("join_rate", number(0.001, 1e6), 1.0, "Joins and invitations per person and second."),
        Option("join_burst", integer(1, 10**6), 100, "Joins and invitations at once."),
        Option("create_rate", number(0.001, 1e6), 0.2, "New rooms per person and second."),
        Option("create_burst", integer(1, 10**6), 20, "New rooms at once."),
        Option("search_rate", number(0.01, 1e6), 2.0, "Searches of people and messages per person and second."),
        Option("search_burst", integer(1, 10**6), 20, "Searches at once."),
        Option("media_rate", number(0.01, 1e6), 100.0, "Files and thumbnails fetched per person and second."),
        Option("media_burst", integer(1, 10**6), 1000, "Files and thumbnails fetched at once."),
        Option("anonymous_rate", number(0.01, 1e6), 20.0, "Requests without login per address and second."),
        Option("anonymous_burst", integer(1, 10**6), 200, "Requests without login at once."),
        Option("login_failures_rate", number(0.001, 1e6), 0.05, "Failed logins per Uni-ID and second in the long run."),
        Option("login_failures_burst", integer(1, 10**6), 5, "Failed logins per Uni-ID at once."),
        Option("address_failures_rate", number(0.001, 1e6), 0.5, "Failed logins per address and second in the long run."),
        Option("address_failures_burst", integer(1, 10**6), 30, "Failed logins per address at once."),
        Option("connections", integer(10, 10**6), 20_000, "Connections of all clients together."),
        Option(
            "connections_per_address",
            integer(1, 10**6),
            1_000,
            "Connections of one address (of IPv6: one /64).",
            "more if many people come through one address, e.g. a campus network with address translation",
        ),
        Option("max_upload_size", size, 50 * 2**20, "The most bytes of one uploaded file.", "", "50M"),
    ),
)  # fmt: skip

MEDIA = Section(
    "media",
    "Uploaded files.",
    (
        Option("quota_per_person", size, 5 * 2**30, "The most bytes of all files of one person together.", "", "5G"),
        Option(
            "unauthenticated_downloads",
            boolean,
            False,
            "Whether the deprecated downloads work, which ask for no login (Matrix since 1.11 has others). Whoever knows "
            "the address of a file then can fetch it.",
            "no, unless a client in use is too old to send its token with downloads",
        ),
        Option(
            "url_previews",
            boolean,
            False,
            "Whether the server fetches web pages that people link to, to show their titles. The pages' owners then see "
            "that somebody here wrote of them.",
        ),
        Option(
            "url_previews_private",
            boolean,
            False,
            "Whether it may fetch pages in private networks and on this machine too, at any port.",
            "no, unless everybody here may read everything that this machine can reach",
        ),
    ),
)  # fmt: skip

PUSH = Section(
    "push",
    "Notifications to people's devices, through the push gateways that their apps name.",
    (
        Option(
            "allow_private",
            boolean,
            False,
            "Whether gateways may lie in private networks or on this machine, and be reached without TLS.",
            "yes only if you run such a gateway yourself: people choose the addresses",
        ),
    ),
)

ACCOUNTS = Section(
    "accounts",
    "Accounts and profiles.",
    (
        Option(
            "display_name",
            choice("directory", "free"),
            "free",
            "directory: the name comes from the directory and can't be changed; free: people may change it.",
        ),
        Option(
            "access_token_lifetime",
            integer(60, 30 * 86400),
            3600,
            "Seconds until a client that uses refresh tokens has to fetch a new access token.",
        ),
    ),
)

ROOMS = Section(
    "rooms",
    "Rooms.",
    (
        Option(
            "encryption_default",
            choice("off", "direct", "on"),
            "off",
            "Which new rooms begin with end-to-end encryption. It can be switched on in every room later, and never off. "
            "off: none unless people say so; direct: direct chats in which everybody has a device that can encrypt; on: "
            "those, and Element proposes it for private rooms. Element X encrypts private rooms whatever stands here.",
        ),
    ),
)


class CallListener(NamedTuple):
    """Where STUN and TURN are spoken: `transport` is udp, tcp or tls; `host` "" means every address, IPv4 and IPv6;
    `port` 0 means any free one."""

    transport: str
    host: str
    port: int


def call_listeners(value: str) -> tuple[CallListener, ...]:
    """`udp:3478`, `tcp:192.0.2.1:3478`, `tls:[2001:db8::1]:5349`, one per line or separated by commas."""
    return tuple(_call_listener(one) for one in lines(value))


def _call_listener(value: str) -> CallListener:
    match = re.fullmatch(r"(udp|tcp|tls):(?:([0-9.]+|\[[0-9A-Fa-f:.]+\]):)?([0-9]{1,5})", value)
    if not match or int(match[3]) > 65535:
        raise ValueError(f"{value!r} is not of the form udp:3478, tcp:192.0.2.1:3478 or tls:[2001:db8::1]:5349")
    host = (match[2] or "").strip("[]")
    return CallListener(match[1], str(_address(host)) if host else "", int(match[3]))


def _address(value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(value)
    except ValueError:
        raise ValueError(f"{value!r} is not an IP address")


def external_addresses(value: str) -> tuple[str, ...]:
    """At most one IPv4 and one IPv6 address."""
    found = [_address(one) for one in lines(value)]
    if len({one.version for one in found}) < len(found):
        raise ValueError("must be one IPv4 address, one IPv6 address, or one of each")
    if any(one.is_unspecified or one.is_multicast for one in found):
        raise ValueError(f"must be addresses that others reach, not {value!r}")
    return tuple(str(one) for one in found)


def networks(value: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """IP networks or addresses, one per line or separated by commas."""
    try:
        return tuple(ipaddress.ip_network(one) for one in lines(value))
    except ValueError as error:
        raise ValueError(f"must be networks such as 10.20.0.0/16: {error}")


def port_range(value: str) -> tuple[int, int]:
    """`low-high`, both included; at least 100 ports, none below 1024."""
    match = re.fullmatch(r"([0-9]{1,5})\s*-\s*([0-9]{1,5})", value)
    low, high = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1024 <= low <= high - 99 <= 65535 - 99:
        raise ValueError(f"must be at least 100 ports from 1024 to 65535, such as 49152-65535, not {value!r}")
    return low, high


def turn_uris(value: str) -> tuple[str, ...]:
    """URIs of a TURN server (RFC 7065), one per line or separated by commas."""
    found = lines(value)
    for one in found:
        if not re.fullmatch(
            r"(turns?|stuns?):([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?(\?transport=(udp|tcp))?", one
        ):
            raise ValueError(f"{one!r} is not a URI such as turn:turn.example.org:3478?transport=udp")
    return found


CALLS = Section(
    "calls",
    "Audio and video calls between two people: STUN, and a relay (TURN) for those whose networks let nothing through "
    "directly. Firewalls must let the ports of listen and relay_ports in.",
    (
        Option("enabled", boolean, True, "Whether calls are helped at all; without, they work only inside one network."),
        Option(
            "listen",
            call_listeners,
            (CallListener("udp", "", 3478), CallListener("tcp", "", 3478)),
            "Where to listen: udp, tcp or tls, an address (without: all) and a port, one per line.",
            "add tls:5349 with certificate and private_key for networks that let only TLS through",
            "udp:3478\ntcp:3478",
        ),
        Option("certificate", path, None, "PEM file with the certificate and its chain, for tls listeners."),
        Option("private_key", path, None, "PEM file with the certificate's key."),
        Option("public_host", text, None, "The name or address clients are told for the relay; without, that of public_url."),
        Option(
            "external_address",
            external_addresses,
            (),
            "The address at which others reach this machine, if it is none of its own (address translation).",
            "one IPv4 address, one IPv6 address, or both",
        ),
        Option("relay_ports", port_range, (49152, 65535), "UDP ports of the relay.", "", "49152-65535"),
        Option("realm", text, "heichat", "The realm of the relay's credentials; short, as strangers get no long answers."),
        Option(
            "shared_secret_file",
            path,
            None,
            "File with the secret from which the time-limited credentials are made; without, one is made in data_dir.",
            "with uris: the static-auth-secret of that server",
        ),
        Option("credential_lifetime", integer(300, 30 * 86400), 86400, "Seconds for which a person's credentials are good."),
        Option(
            "uris",
            turn_uris,
            (),
            "URIs of another TURN server that shares the secret (coturn: use-auth-secret), instead of the built-in one.",
            "",
            "turn:turn.example.org:3478?transport=udp\nturn:turn.example.org:3478?transport=tcp",
        ),
        Option(
            "allow_private",
            boolean,
            False,
            "Whether it relays to private addresses (10.0.0.0/8 and the like).",
            "yes if people of this network have such addresses, and all they can reach there may be reached by everybody",
        ),
        Option(
            "allow_networks",
            networks,
            (),
            "Networks it relays to although they are private, or even this machine.",
            "rather than allow_private, the networks of the people: 10.20.0.0/16",
        ),
        Option("allocations_per_person", integer(1, 10_000), 40, "Relay ports of one person at once (a call takes 1 to 8)."),
        Option("allocations", integer(1, 60_000), 4_000, "Relay ports of all people at once."),
        Option("bandwidth_per_allocation", size, 2**20, "Bytes per second and direction on a relay port, 0 for any.", "", "1M"),
        Option("bandwidth", size, 30 * 2**20, "Bytes per second and direction on all relay ports, 0 for any.", "", "30M"),
    ),
)  # fmt: skip

WEB = Section(
    "web",
    "What people see in a browser.",
    (
        Option("brand", text, "heiCHAT", "The name of the service."),
        Option("element_dir", path, None, "Folder of an unpacked Element Web release, served at /element/; without, what "
               "`heichat-admin element install` has put into data_dir."),
        Option("conference_url", url, None, "Address of the conference service for group calls (heiCONF). Element opens it as a "
               "Jitsi Meet server, with a button in every room of more than two."),
        Option("privacy_url", url, None, "Address of the privacy notice, if it is not among the documents of terms_consent."),
        Option("imprint_url", url, None, "Address of the imprint, linked at the foot of all pages."),
        Option("help_url", url, None, "Address of the service's instructions, linked at the foot of all pages and in Element."),
    ),
)  # fmt: skip

#: All sections that do not belong to a plugin.
SECTIONS = (SERVER, PLUGINS, STORAGE, LIMITS, MEDIA, PUSH, ACCOUNTS, ROOMS, CALLS, WEB)
