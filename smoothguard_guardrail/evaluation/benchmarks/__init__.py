"""Published benchmarks, read in their original layout and scored as published."""

from smoothguard_guardrail.evaluation.benchmarks.base import Benchmark
from smoothguard_guardrail.evaluation.benchmarks.compa_order import CompaOrder
from smoothguard_guardrail.evaluation.benchmarks.llava_bench import LlavaBench
from smoothguard_guardrail.evaluation.benchmarks.mm_safetybench import MMSafetyBench
from smoothguard_guardrail.evaluation.benchmarks.pope import Pope

__all__ = ["Benchmark", "CompaOrder", "LlavaBench", "MMSafetyBench", "Pope"]
