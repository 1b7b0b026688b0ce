"""Who works here: names of the machine and of the user, also where the system knows none."""

import getpass
import os
import socket


def host() -> str:
    """The machine's name; "localhost" where it has none."""
    try:
        return socket.gethostname() or "localhost"
    except OSError:
        return "localhost"


def user() -> str:
    """The user's name; the number where it has none, as containers start processes under numbers that no file lists."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # KeyError: before Python 3.13
        return str(os.getuid())
