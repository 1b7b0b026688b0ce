"""Tuning under an equal budget: search spaces, trials, studies, and what follows from them."""
