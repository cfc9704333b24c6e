"""The place where `twisted.plugin` looks for extensions: this folder, and packages of others that extend it."""

from __future__ import annotations

from typing import Any

from twisted.plugin import getPlugins, pluginPackagePaths

from heichat_appliance.config import Section
from heichat_appliance.extension import IExtension
from heichat_appliance.settings import SECTIONS

__path__.extend(pluginPackagePaths(__name__))
__all__: list[str] = []


def extensions() -> dict[str, Any]:
    """Every extension that is installed, by name."""
    import heichat_appliance.plugins as package

    return {extension.name: extension for extension in getPlugins(IExtension, package)}


def all_sections() -> list[Section]:
    """The declared sections: the appliance's own, and one for each extension, which its docstring describes."""
    own = [
        Section(name, (type(extension).__doc__ or "").strip().split("\n\n")[0], extension.options)
        for name, extension in sorted(extensions().items())
    ]
    return [*SECTIONS, *own]
