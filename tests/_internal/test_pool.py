"""One pool for all CPU work: it may call itself, and forgets what is done."""

from __future__ import annotations

import gc
import threading
import weakref

from smoothguard_guardrail._internal.pool import cpu_map, cpu_pool


def test_a_thread_of_the_pool_may_map_too() -> None:
    def inner(number: int) -> int:
        return sum(cpu_map(lambda value: value * number, range(5)))

    assert cpu_map(inner, range(40)) == [10 * number for number in range(40)]


def test_results_are_in_order_and_errors_are_raised() -> None:
    assert cpu_map(lambda number: number**2, (number for number in range(9))) == [number**2 for number in range(9)]
    try:
        cpu_map(lambda number: 1 // number, [1, 0, 2])
    except ZeroDivisionError:
        return
    raise AssertionError("the error was lost")


def test_no_more_threads_than_cores_and_nothing_is_kept() -> None:
    class Large:
        pass

    gate = threading.Event()
    busy = [cpu_pool().submit(gate.wait) for _ in range(64)]  # no thread begins anything else
    kept = []

    def use(large: Large) -> None:
        kept.append(weakref.ref(large))

    cpu_map(use, (Large() for _ in range(8)))
    gc.collect()
    assert [reference() for reference in kept] == [None] * 8
    gate.set()
    for future in busy:
        future.result()
