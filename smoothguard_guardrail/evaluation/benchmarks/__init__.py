"""Published benchmarks, read in their original layout and scored as published."""

from smoothguard_guardrail.evaluation.benchmarks.base import Benchmark

__all__ = ["Benchmark"]
