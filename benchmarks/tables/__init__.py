"""Tables and figures, one module each, which registers itself in benchmarks.tables.benchmark.BENCHMARKS."""
