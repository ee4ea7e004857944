"""How fast this machine multiplies matrices, and in which arithmetic: measured, not looked up."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from functools import lru_cache

import torch

from potstill.data.cache import cache_folder, read_json
from potstill.errors import StorageError
from potstill.machine import machine
from potstill.runs import write_json

BF16_PAYS = 1.5
"""bf16 is taken where its products are this many times as fast as those of float32: casts cost what is less."""

_SIZE = 1024
_TRIALS = 7


@lru_cache(maxsize=2)
def matrix_rate(dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of products of two 1,024² matrices (8,192² on a GPU): the best of a few, each long enough to be timed."""
    size = _SIZE if device.type == "cpu" else 8 * _SIZE
    own = torch.Generator(device).manual_seed(0)  # the global one decides the numbers of the run
    left, right = (torch.randn(size, size, device=device, generator=own).to(dtype) for _ in range(2))
    return max(2 * size**3 / _product_s(left, right) for _ in range(_TRIALS))


def _product_s(left: torch.Tensor, right: torch.Tensor) -> float:
    started = time.perf_counter()
    product = left @ right
    float(product[0, 0])  # reading one number waits for a GPU
    return time.perf_counter() - started


def cpu_gains_from_bf16() -> bool:
    """Whether bf16 products are ``BF16_PAYS`` times as fast as float32's on this processor.

    Its flags do not tell: AVX-512 BF16 made products 4 times as fast on one processor and half as fast on another
    (``docs/log.md``). The answer is measured once for a processor, a number of threads and a version of torch, and kept
    in the cache folder, so that a resumed run goes on in the arithmetic it began with.
    """
    if not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return False
    where = {**machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    key = hashlib.sha256(json.dumps(where, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_folder() / f"bf16-{key}.json"
    known = read_json(path).get("bf16_over_float32")
    if known is None:
        cpu = torch.device("cpu")
        known = matrix_rate(torch.bfloat16, cpu) / matrix_rate(torch.float32, cpu)
        # Without a cache folder that can be written it is measured again next time.
        with contextlib.suppress(StorageError, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {**where, "bf16_over_float32": known})
    return float(known) >= BF16_PAYS
