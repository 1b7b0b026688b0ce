"""Several processes for one run, through torch.distributed: each has its part of every batch."""

from typing import NamedTuple


class Share(NamedTuple):
    """A process's part of every batch: it is the ``rank``-th (from 0) of ``size`` processes."""

    rank: int = 0
    size: int = 1

    def rows(self, count: int) -> slice:
        """This process's rows of a batch of ``count``: consecutive, sizes differ by at most one."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)
