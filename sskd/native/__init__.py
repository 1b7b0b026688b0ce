"""C for what torch has no fast operator for on the CPU: compiled for this very processor when it is first wanted, and
kept in ~/.cache/sskd (or $XDG_CACHE_HOME/sskd). Where there is no C compiler, torch's own operators do the work: the
same numbers to rounding."""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCES = [Path(__file__).with_name(name) for name in ("norm.c", "views.c")]
FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fopenmp", "-fPIC")

_allowed = True


def allow(yes: bool) -> None:
    """Whether to use it (execution.native)."""
    global _allowed
    _allowed = yes


def library() -> ctypes.CDLL | None:
    """The compiled functions; None where they are not wanted or cannot be had."""
    return _compiled() if _allowed else None


@functools.cache
def _compiled() -> ctypes.CDLL | None:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return None
    try:
        file = _folder() / f"native-{_digest(compiler)}.so"
        if not file.exists():
            _compile(compiler, file)
        return ctypes.CDLL(str(file))
    except (OSError, RuntimeError, subprocess.SubprocessError):  # no compiler that works, no folder, no home
        return None


def _compile(compiler: str, file: Path) -> None:
    """Under another name first: two processes that compile at once both end with a whole file."""
    with tempfile.TemporaryDirectory(dir=file.parent) as name:
        run = functools.partial(subprocess.run, cwd=name, capture_output=True, check=True, timeout=120)
        run([compiler, "-c", *FLAGS, *map(str, SOURCES)])
        # linked without -fopenmp: torch's own OpenMP is there already, and a second one's threads would be in its way
        run([compiler, "-shared", "-o", "native.so", *(source.with_suffix(".o").name for source in SOURCES)])
        os.replace(Path(name) / "native.so", file)


def _folder() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sskd"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _digest(compiler: str) -> str:
    """Of all that the result depends on: homes are shared by machines with different processors."""
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=30).stdout
    about = [*(source.read_bytes() for source in SOURCES), version, repr(FLAGS).encode(), _processor()]
    return hashlib.sha256(b"\0".join(about)).hexdigest()[:16]


def _processor() -> bytes:
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return platform.platform().encode()
    return b"\n".join(sorted({line for line in lines if line.startswith((b"model name", b"flags", b"Features"))}))
