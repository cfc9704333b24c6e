"""heiCHAT: a Matrix homeserver for one university, as one Twisted daemon."""

__version__ = "0.1.0"
