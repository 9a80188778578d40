"""The suites of the benchmarks, one file each; the name of a file is the name of its suite."""
