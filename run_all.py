#!/usr/bin/env python3
"""The command line of the benchmark suite: run, plan, report and more. ``run_all.py --help`` lists the verbs."""

from benchmarks.commands.main import main

if __name__ == "__main__":
    raise SystemExit(main())
