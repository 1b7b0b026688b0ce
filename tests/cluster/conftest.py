"""Fixtures of this folder: processes that hold locks."""

from tests.cluster.holding import holds

__all__ = ["holds"]
