"""Names of the machine and the user, with fallbacks."""

import getpass
import os
import platform


def host() -> str:
    """Returns the host name, or "localhost" if there is none."""
    return platform.node() or "localhost"


def user() -> str:
    """Returns the user's name, or the user's number if there is no name (containers often use unlisted numbers)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # KeyError: before Python 3.13
        return str(os.getuid())
