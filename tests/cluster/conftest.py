"""What the tests of this folder have: processes that hold locks."""

from tests.cluster.holding import holds

__all__ = ["holds"]
