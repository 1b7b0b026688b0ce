#!/usr/bin/env python3
"""The command line of the benchmark suite: plan, run, resume, report. ``run_all.py --help`` tells the options."""

from benchmarks.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
