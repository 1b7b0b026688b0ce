"""Measurements on a GPU with one command: parity with the CPU, speed against the plain loop, and a trained cell.

    python -m perf.gpu --dataset-root DIR --out OUT --minutes 60

Six parts: machine, steps, parity, exact, rates, cell. Each item of a part is written to OUT/PART.json when it is
measured, so the same command resumes. OUT/report.md is written from these files only. --device cpu --small uses minimal
sizes, to test the command itself.
"""
