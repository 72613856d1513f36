"""What the benchmarks share (`common`), and the parts of scripts/bench_gpu.py (the others)."""
