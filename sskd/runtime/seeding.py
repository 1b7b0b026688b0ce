"""Named random streams. All random numbers of a run depend on its seeds and a stream's name, not on earlier code."""

import hashlib

import torch


def stream_seed(seed: int, *names: str | int) -> int:
    """Returns a 63-bit seed for the stream ``names`` of ``seed``: the same on every machine, independent between
    names."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(device: torch.device | str, seed: int, *names: str | int) -> torch.Generator:
    """Returns a generator on ``device`` at the beginning of that stream."""
    return torch.Generator(device=device).manual_seed(stream_seed(seed, *names))
