"""Speed benchmarks: scripts that measure, never tests."""
