"""Self-supervised pretext tasks, one file each. A file registers its task."""

from sskd.pretext.base import PRETEXTS, Pretext, PretextContext

__all__ = ["PRETEXTS", "Pretext", "PretextContext"]
