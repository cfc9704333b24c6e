"""Plugin `ldap_identity`: people log in with their Uni-ID and its password, which the LDAP directory checks."""

from __future__ import annotations

from typing import Any

from twisted.plugin import IPlugin
from zope.interface import implementer

from heichat_appliance.config import (
    REQUIRED,
    ConfigErrors,
    Option,
    Settings,
    boolean,
    integer,
    lines,
    number,
    path,
    text,
)
from heichat_appliance.directory.entries import attribute_name, distinguished_name, dn_template, filter_template
from heichat_appliance.directory.ldap import LdapDirectory
from heichat_appliance.directory.server import Endpoint
from heichat_appliance.extension import IExtension


def _uris(value: str) -> tuple[str, ...]:
    return tuple(Endpoint.parse(uri).uri for uri in lines(value))


def _optional_attribute(value: str) -> str | None:
    return attribute_name(value) if value else None


@implementer(IPlugin, IExtension)
class _LdapIdentityExtension:
    """The university's LDAP directory. A login binds to it with the person's own password, which is never stored."""

    name = "ldap_identity"
    options = (
        Option(
            "uri",
            _uris,
            REQUIRED,
            "The servers, one per line; the next is asked when one fails.",
            hint="use ldaps:// where the directory offers it",
            example="ldaps://ldap1.example.org\nldaps://ldap2.example.org",
        ),
        Option(
            "start_tls",
            boolean,
            True,
            "Encrypt ldap:// connections by StartTLS. Without it, passwords cross the network in clear.",
        ),
        Option("ca_file", path, None, "PEM file with the only authorities to trust; without it, those of the system."),
        Option(
            "base", distinguished_name, REQUIRED, "Where people are searched.", example="ou=people,dc=example,dc=org"
        ),
        Option(
            "filter",
            filter_template,
            "(&(objectClass=person)(uid={uid}))",
            "Who may log in: must match exactly one entry, with the Uni-ID in place of {uid}.",
        ),
        Option("uid_attribute", attribute_name, "uid", "The attribute that holds the Uni-ID."),
        Option("name_attribute", _optional_attribute, "displayName", "The attribute that holds the name to show."),
        Option(
            "mail_attribute", _optional_attribute, "mail", "The attribute that holds the mail address (kept private)."
        ),
        Option(
            "bind_dn",
            distinguished_name,
            None,
            "The account that searches people; without it the search is anonymous.",
            example="cn=heichat,ou=services,dc=example,dc=org",
        ),
        Option("bind_password", text, None, "The password of bind_dn.", hint="better use bind_password_file"),
        Option("bind_password_file", path, None, "A file that holds the password of bind_dn."),
        Option(
            "user_dn_template",
            dn_template,
            None,
            "Bind directly as this name, with the Uni-ID in place of {uid}, instead of searching first.",
            example="uid={uid},ou=people,dc=example,dc=org",
        ),
        Option("timeout", number(0.1, 60), 5.0, "Seconds after which a login fails when no server answers."),
        Option("connections", integer(1, 64), 8, "How many calls may be under way at once."),
    )

    def build(self, settings: Settings, host: Any) -> LdapDirectory:
        """An LdapDirectory. Raises ConfigErrors."""
        errors = [f"[ldap_identity] {key} is missing" for key in ("uri", "base") if not settings[key]]
        password = bind_password(settings, errors)
        if bool(settings.bind_dn) != bool(password) and not errors:
            errors.append("[ldap_identity] bind_dn and bind_password (or bind_password_file) belong together")
        if errors:
            raise ConfigErrors(errors)
        try:
            return LdapDirectory(
                settings.uri,
                settings.base,
                settings.filter,
                uid_attribute=settings.uid_attribute,
                name_attribute=settings.name_attribute,
                mail_attribute=settings.mail_attribute,
                bind_dn=settings.bind_dn,
                bind_password=password,
                user_dn_template=settings.user_dn_template,
                start_tls=settings.start_tls,
                ca_file=settings.ca_file,
                timeout=settings.timeout,
                pool=settings.connections,
            )
        except ValueError as error:
            raise ConfigErrors([f"[ldap_identity] {error}"]) from None


def bind_password(settings: Settings, errors: list[str]) -> str | None:
    """The password of bind_dn, if there is one; what is wrong with it is added to `errors`."""
    if settings.bind_password_file is None:
        return settings.bind_password
    if settings.bind_password:
        errors.append("[ldap_identity] bind_password and bind_password_file can't both be set (hint: keep the file)")
        return None
    try:
        password = settings.bind_password_file.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        errors.append(f"[ldap_identity] bind_password_file can't be read: {error}")
        return None
    if not password:
        errors.append("[ldap_identity] bind_password_file is empty")
    return password or None


ldap_identity = _LdapIdentityExtension()
