"""A plugin for the tests: training without a teacher that can be slowed down, or made to fail, from outside.

SLOW_UNTIL names a file: every step takes longer until it exists. CRASHES names a folder: a step of a worker or
of a job raises an error as long as the folder holds a file, and removes one; the trial of a plan does not.
"""

import os
import time
from multiprocessing import parent_process
from pathlib import Path

from sskd.methods import METHODS, Method, MethodInfo


@METHODS.register("slow")
class Slow(Method):
    """Cross-entropy, slowly."""

    info = MethodInfo("Slow", "a test", 0, "nothing")
    required_features = frozenset({"labels"})
    needs_teacher = False

    def after_step(self) -> None:
        trains = parent_process() is not None or "SLURM_JOB_ID" in os.environ
        crashes = os.environ.get("CRASHES") if trains else None
        for marker in sorted(Path(crashes).iterdir()) if crashes else []:
            marker.unlink()
            raise ZeroDivisionError("on purpose")
        until = os.environ.get("SLOW_UNTIL")
        if until and not Path(until).exists():
            time.sleep(0.7)
