"""Memory of a device: what is held of it, how it says that it ran out, and trying again with less."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from icp.errors import IcpError

T = TypeVar("T")
P = TypeVar("P", bound=Any)

KEPT_BY_MALLOC = (32 << 20) - (1 << 16)
"""Bytes: nearly the largest block by which glibc moves its thresholds."""


def bytes_held(device: torch.device) -> int:
    """What this process holds of the device's memory; on the CPU, its resident memory."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return pages * os.sysconf("SC_PAGE_SIZE")


def keep_what_is_freed() -> None:
    """Have the C library keep what one forward pass frees for the next one.

    glibc gives freed memory back to the system, page by page, and takes it anew, page by page, where more than twice
    the largest block that it ever mapped and freed is free. The values of a pass are more than that in a young process,
    and a tenth of a sweep would go into pages. So a large block is mapped and freed, without being touched.
    """
    torch.empty(KEPT_BY_MALLOC, dtype=torch.uint8)


def ran_out(error: BaseException) -> bool:
    """Whether memory ran out: on a GPU, in Python or numpy, or in PyTorch's allocator for CPUs.

    That one raises a plain `RuntimeError`, as do the library of matrix products on a GPU and some other devices.
    """
    words = ("DefaultCPUAllocator", "out of memory", "ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in words)


def too_large(what: str, error: BaseException) -> IcpError:
    """That `what` does not fit, in one sentence with what the allocator said."""
    said = (str(error) or type(error).__name__).splitlines()[0]
    return IcpError(
        f"out of memory: {what} does not fit ({said}); give shorter texts, fewer units or a smaller dtype, or measure "
        "where there is more memory"
    )


def within_memory(plan: P, attempt: Callable[[P], T]) -> tuple[T, P]:
    """`attempt(plan)` and the `icp.sweep.plan.Plan` that went through: it is halved as often as memory runs out.

    Raises `IcpError` where not even one row fits.
    """
    keep_what_is_freed()
    while True:
        try:
            return attempt(plan), plan
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            if plan.batch_size == 1:
                raise too_large("a forward pass of one row", error) from error
        plan = plan.halved()
