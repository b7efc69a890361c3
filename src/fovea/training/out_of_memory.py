"""Turns an out-of-memory error into a short one that suggests a smaller batch with the same result."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

MESSAGES = re.compile(  # of torch, oneDNN, CUDA and its libraries
    r"can't allocate memory|not enough memory|could not create a memory|CUDA error: out of memory|_ALLOC_FAILED"
)


@contextmanager
def suggest_smaller_batch(
    batch_size: int, accumulated: int | None, world_size: int, first_batch: int | None = None
) -> Iterator[None]:
    """Replace an out-of-memory error by a ValueError of a few lines; other errors are not changed.

    Args:
        batch_size: over all devices.
        accumulated: trainer.accumulate_grad_batches; None if the optimizer can't accumulate.
        world_size: the number of devices.
        first_batch: data.progressive.batch_size, over all devices.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        smaller = suggestion(batch_size, accumulated, world_size, first_batch)
        raise ValueError(f"{_summary(error)}\n{smaller}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if this process ran out of CPU or GPU memory; a data loader worker is another process."""
    if "DataLoader worker" in str(error):
        return False
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or bool(MESSAGES.search(str(error)))


def _summary(error: BaseException) -> str:
    """Shorten torch's message to the requested and the available memory."""
    text = re.sub(r"^\[enforce fail at [^\]]*\]\.?\s*", "", str(error).splitlines()[0]) if str(error) else ""
    facts = re.split(r"(?<=\.) (?:Including|Process|Of the allocated|If reserved)|(?: Error code)", text)[0]
    return f"out of memory: {facts or 'the system has no more'}"


def suggestion(batch_size: int, accumulated: int | None, world_size: int, first_batch: int | None = None) -> str:
    """Suggest the next smaller batch size that divides evenly, with more accumulation for the same step.

    Where that is impossible, suggest other ways to need less memory.
    """
    each, common = batch_size // world_size, math.gcd(batch_size, first_batch or batch_size) // world_size
    current = f"data.batch_size={batch_size} is {each} images on each of {world_size} devices"
    if common == 1 or accumulated is None:
        return f"{current}: lower data.image_size, use a smaller model, or set trainer.precision=bf16-mixed"
    factor = next(n for n in range(2, common + 1) if common % n == 0)
    overrides = f"data.batch_size={batch_size // factor} trainer.accumulate_grad_batches={accumulated * factor}"
    overrides += f" data.progressive.batch_size={first_batch // factor}" if first_batch else ""
    return f"{current}\nthe same {batch_size * accumulated} images per step, in less memory: {overrides}"
