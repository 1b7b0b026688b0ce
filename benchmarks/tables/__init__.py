"""One file for each table or figure; each registers itself in benchmarks.base.BENCHMARKS."""
