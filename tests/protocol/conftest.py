"""Property tests: no deadlines (the machine may be busy), nothing written to disk."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("quiet", deadline=None, database=None, max_examples=200)
settings.load_profile("quiet")
