"""Self-supervised tasks. One file per task; it registers itself."""

from sskd.pretext.base import PRETEXTS, Pretext, PretextContext

__all__ = ["PRETEXTS", "Pretext", "PretextContext"]
