"""One file for each table or figure; each registers itself in benchmarks.tables.benchmark.BENCHMARKS."""
