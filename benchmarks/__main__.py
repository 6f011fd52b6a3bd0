"""``python -m benchmarks`` is ``python -m benchmarks.throughput``."""

from benchmarks.throughput import main

main()
