"""Random streams by name. Everything random in a run follows from its seeds and a name, not from what ran before."""

import hashlib

import torch


def stream_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream ``names`` of ``seed``: the same on every machine, unrelated between names."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(device: torch.device | str, seed: int, *names: str | int) -> torch.Generator:
    """A generator on ``device`` at the start of that stream."""
    return torch.Generator(device=device).manual_seed(stream_seed(seed, *names))
