"""Speed benchmarks: scripts that measure; they assert nothing."""
