"""One command for a machine with a GPU: parity with the CPU, rates against the plain loop, and a trained cell.

    python -m perf.gpu --dataset-root DIR --out OUT --minutes 60

Six parts: machine, steps, parity, exact, rates, cell. Each is a list of items, and each item is written to
OUT/PART.json as soon as it is measured, so the same command, given again, goes on where it stopped. OUT/report.md is
made from these files alone. With --device cpu --small everything is as small as can be: it shows that the command
works, and nothing else.
"""
