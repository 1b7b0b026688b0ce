"""Published weights in. (A run's own checkpoints are its folder's: sskd/folder.py.)"""

from sskd.weights import load_network, load_state

__all__ = ["load_network", "load_state"]
