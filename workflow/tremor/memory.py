"""Memory: the most that was taken, what counts as a shortage, and a job that starts again with smaller batches.

The shape of a batch is part of its rounding, so the batches of one job are never mixed: where memory runs out in the
middle, the whole job starts again with half the rows. This module knows neither torch nor Snakemake.
"""

import gc
import importlib
import logging
import resource
import sys
from collections.abc import Callable

from tremor.errors import PlatformError

_log = logging.getLogger(__name__)

# Torch reports a shortage of the CPU's memory as a plain RuntimeError, and those of its libraries by status names.
_WORDS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


class BatchTooLarge(PlatformError):
    """Memory ran out in the middle of a sweep whose batches had this many rows, chosen by ``auto``."""

    def __init__(self, rows: int) -> None:
        super().__init__(
            f"memory ran out with batches of {rows} rows; lower probe.max_memory, or set probe.batch_size to at most "
            f"{max(1, rows // 2)}"
        )
        self.rows = rows


class _Shortages:
    """What ran out in this process; one job is one process."""

    limit: int | None = None
    rows: tuple[int, ...] = ()


def is_shortage(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, of the device or of the host."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


def batch_limit() -> int | None:
    """Most rows of a batch that this process still tries where it may choose; None before any shortage."""
    return _Shortages.limit


def shortages() -> list[int]:
    """Rows of the batches for which memory did not suffice in this process, for provenance."""
    return list(_Shortages.rows)


def lower(rows: int) -> int:
    """Note that batches of this many rows are too large.

    Returns:
        The most rows that are tried from now on, half of them.
    """
    _Shortages.rows = (*_Shortages.rows, rows)
    _Shortages.limit = max(1, rows // 2)
    return _Shortages.limit


def reset() -> None:
    """Forget all shortages."""
    _Shortages.limit, _Shortages.rows = None, ()


def release() -> None:
    """Give back what the failed attempt held, also what torch keeps for later."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def restarting(job: Callable[[], object]) -> None:
    """Run a job, and from its beginning again whenever its batches turn out too large.

    Args:
        job: Writes its artifacts in one step each, so an attempt that stops leaves nothing that the next one keeps.

    Raises:
        PlatformError: memory ran out where no batch can be made smaller.
    """
    while True:
        try:
            job()
            return
        except BatchTooLarge as error:
            rows = error.rows
        except Exception as error:
            if not is_shortage(error):
                raise
            raise PlatformError(
                f"memory ran out ({str(error).splitlines()[0] if str(error) else type(error).__name__}); lower "
                "probe.max_memory or the batch_size of this experiment's block, or run with fewer --cores"
            ) from error
        # Behind the handler: the exception's traceback keeps the tensors of the attempt alive.
        limit = lower(rows)
        release()
        _log.warning(
            "memory ran out with batches of %d rows; the job starts again with at most %d, as the shape of a batch is "
            "part of its rounding (probe.batch_size: auto)",
            rows,
            limit,
        )


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def peak_device_memory_bytes() -> int:
    """Largest CUDA memory of this process so far over all devices, in bytes; 0 where CUDA is not in use."""
    if "torch" not in sys.modules:
        return 0
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return 0
    return sum(int(torch.cuda.max_memory_allocated(index)) for index in range(torch.cuda.device_count()))
