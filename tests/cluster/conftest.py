"""Fixtures of this folder: a Slurm of its own."""

from tests.cluster.slurm_site import quiet, site

__all__ = ["quiet", "site"]
