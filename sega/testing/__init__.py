"""Checks that every method has to pass, for methods of any package: `check_method(Mine)`.

The pipelines are small and random, of the stock classes of FLUX and Qwen-Image, so a check takes seconds on a CPU.
"""

from sega.testing.checks import CHECKS, check_golden, check_method, small_pipeline

__all__ = ["CHECKS", "check_golden", "check_method", "small_pipeline"]
