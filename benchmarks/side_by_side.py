"""Times of things that are compared, measured alternately in one run."""

import statistics
import time
from collections.abc import Callable
from typing import Any


def compare(runs: dict[str, Callable[[], Any]], rounds: int, base: str, wait: Callable[[], Any]) -> dict[str, Any]:
    """Median milliseconds of each run, measured alternately, and the ratio to the median of `base`; `spread` are the
    quartiles of the ratios per round."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for round_number in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            wait()
            if round_number:  # the first round warms up
                times[name].append(1e3 * (time.perf_counter() - start))
    result: dict[str, Any] = {}
    for name, measured in times.items():
        ratios = [mine / theirs for mine, theirs in zip(measured, times[base], strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        result[name] = {
            "ms": round(statistics.median(measured), 2),
            "ratio": round(statistics.median(measured) / statistics.median(times[base]), 3),
            "spread": [round(low, 3), round(high, 3)],
        }
    return result
