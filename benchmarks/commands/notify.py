"""``--notify CMD``: runs a shell command when the runs have ended."""

import os
import subprocess
import sys

PATIENCE = 60.0  # time limit of the command, in seconds
INTERRUPTED = (129, 130, 141, 143)  # exit statuses: closed terminal, Ctrl-C, closed pipe, SIGTERM


def notify(command: str, status: int, summary: str) -> None:
    """Runs the command in a shell. SSKD_STATUS is finished, failed or interrupted; SSKD_SUMMARY is a one-line summary,
    which is also the last argument. If the command fails, a line is printed on stderr."""
    word = "interrupted" if status in INTERRUPTED else "failed" if status else "finished"
    environment = os.environ | {"SSKD_STATUS": word, "SSKD_SUMMARY": summary}
    sys.stdout.flush()
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", f'{command} "$@"', "sh", summary],
            env=environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            encoding="utf-8",
        )
    except subprocess.TimeoutExpired:
        problem = f"has not ended within {PATIENCE:.0f} s"
    except OSError as error:
        problem = f"cannot be started ({error.strerror})"
    else:
        said = done.stderr.strip().splitlines()[-1:]
        problem = f"ended with status {done.returncode}{f' ({said[0]})' if said else ''}" if done.returncode else ""
    if problem:
        print(f"run_all: the command of --notify {problem}: {command}", file=sys.stderr)
