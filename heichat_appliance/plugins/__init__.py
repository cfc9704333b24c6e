"""The place where `twisted.plugin` looks for extensions: this folder, and packages of others that extend it."""

from twisted.plugin import pluginPackagePaths

__path__.extend(pluginPackagePaths(__name__))
__all__: list[str] = []
