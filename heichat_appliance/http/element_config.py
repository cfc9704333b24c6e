"""Element's config.json: this server only, nothing that asks anybody else.

Source: element-web, docs/config.md and src/SdkConfig.ts. What we do not say has a default there; those that lead to matrix.to,
scalar.vector.im or meet.element.io are therefore said. What remains are links to element.io for who wants to install an app.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit


def element_config(
    *,
    server_name: str,
    public_url: str,
    brand: str,
    lang: str,
    encryption: dict[str, Any],
    conference_url: str | None = None,
    help_url: str | None = None,
    privacy_url: str | None = None,
    terms_links: Sequence[tuple[str, str]] = (),
    support_email: str | None = None,
) -> dict[str, Any]:
    """The configuration as JSON-able values.

    `lang`: de or en, for who has not chosen a language in Element; `encryption`: see versions.element_encryption;
    `terms_links`: (text, URL) at the foot of the login page.
    """
    found: dict[str, Any] = {
        "default_server_config": {
            "m.homeserver": {"base_url": public_url, "server_name": server_name},
            "io.element.e2ee": encryption,
        },
        "disable_custom_urls": True,
        "disable_guests": True,
        "disable_3pid_login": True,
        "default_federate": False,
        "brand": brand,
        "permalink_prefix": f"{public_url}/element",
        "room_directory": {"servers": [server_name]},
        "show_labs_settings": False,
        # no integration manager, no place for error reports (posthog, sentry, bug_report_endpoint_url: left out is off)
        "integrations_ui_url": "",
        "integrations_rest_url": "",
        "integrations_widgets_urls": [],
        "default_country_code": "DE",
        "embedded_pages": {"login_for_welcome": True},
        "help_url": help_url or f"{public_url}/?lang={lang}",
        "help_encryption_url": help_url or f"{public_url}/?lang={lang}",
        "terms_and_conditions_links": [{"text": text, "url": url} for text, url in terms_links],
        "features": {"feature_group_calls": False, "feature_video_rooms": False, "feature_location_share_live": False},
        "setting_defaults": _setting_defaults(lang, with_conferences=conference_url is not None),
    }
    if conference_url:
        found["jitsi"] = {"preferred_domain": urlsplit(conference_url).netloc}
    if privacy_url:
        found["privacy_policy_url"] = privacy_url
    if support_email:
        sentence = "Meldungen gehen an {0}." if lang == "de" else "Reports go to {0}."
        found["report_event"] = {"admin_message_md": sentence.format(f"[{support_email}](mailto:{support_email})")}
    return found


def _setting_defaults(lang: str, *, with_conferences: bool) -> dict[str, Any]:
    return {
        "language": lang,
        "UIFeature.registration": False,
        "UIFeature.passwordReset": False,
        "UIFeature.deactivate": False,
        "UIFeature.identityServer": False,
        "UIFeature.thirdPartyId": False,
        "UIFeature.feedback": False,
        "UIFeature.shareSocial": False,
        "UIFeature.locationSharing": False,  # the map would come from elsewhere
        "MessageComposerInput.showLocationButton": False,
        # without a conference service of ours the button for group calls would open meet.element.io
        **({} if with_conferences else {"UIFeature.widgets": False}),
    }
