"""Reproduction of the paper's tables and figures: plans and executes the runs, and reports results next to the
paper's."""
