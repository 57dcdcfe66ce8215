"""What :mod:`benchmarks.scale` measures, one module for each kind of growth."""
