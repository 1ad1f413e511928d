"""Published benchmarks, read in their original layout or as datasets of the hub, and scored as published."""

from smoothguard_guardrail.evaluation.datasets.base import Benchmark
from smoothguard_guardrail.evaluation.datasets.compa_order import CompaOrder
from smoothguard_guardrail.evaluation.datasets.hub import (
    llava_bench_from_hub,
    mm_safetybench_from_hub,
    pope_from_hub,
)
from smoothguard_guardrail.evaluation.datasets.llava_bench import LlavaBench
from smoothguard_guardrail.evaluation.datasets.mm_safetybench import MMSafetyBench
from smoothguard_guardrail.evaluation.datasets.pope import Pope

__all__ = [
    "Benchmark",
    "CompaOrder",
    "LlavaBench",
    "MMSafetyBench",
    "Pope",
    "llava_bench_from_hub",
    "mm_safetybench_from_hub",
    "pope_from_hub",
]
