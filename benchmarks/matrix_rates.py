"""Rates of torch's matrix products in float32 and bf16 on this machine: what ``precision: auto`` is decided by.

    python benchmarks/matrix_rates.py [--size 2048] [--seconds 3] [--repeats 5]

Prints, for each number of threads, the median over the repeats of the GFLOP/s of each arithmetic, and their ratio. The
two arithmetics take turns within each repeat, so that whatever else the machine does hits both alike.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch


def rate_gflops(dtype: torch.dtype, size: int, seconds: float) -> float:
    """GFLOP/s of ``size``² × ``size``² products, repeated for ``seconds``; one product before that is not timed."""
    left, right = (torch.randn(size, size).to(dtype) for _ in range(2))
    left @ right
    products, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        left @ right
        products += 1
    return products * 2 * size**3 / (time.perf_counter() - started) / 1e9


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(f"AVX-512 BF16 {torch.cpu._is_avx512_bf16_supported()}, AMX {torch.cpu._is_amx_tile_supported()}")
    for threads in range(1, torch.get_num_threads() + 1):
        torch.set_num_threads(threads)
        rates: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
        for _ in range(arguments.repeats):
            for dtype, measured in rates.items():
                measured.append(rate_gflops(dtype, arguments.size, arguments.seconds / arguments.repeats))
        single, half = (statistics.median(measured) for measured in rates.values())
        print(f"{threads} threads: float32 {single:.0f} GFLOP/s, bf16 {half:.0f} GFLOP/s, ratio {half / single:.2f}")


if __name__ == "__main__":
    main()
