"""Out of memory: what to type so that the training fits and stays the same."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

SAID = re.compile(  # by torch, oneDNN, CUDA and its libraries
    r"can't allocate memory|not enough memory|could not create a memory|CUDA error: out of memory|_ALLOC_FAILED"
)


@contextmanager
def smaller_batch_proposed(batch_size: int, accumulated: int, world_size: int) -> Iterator[None]:
    """Turns running out of memory into a ValueError of few lines; other errors pass.

    Args:
        batch_size: over all devices.
        accumulated: trainer.accumulate_grad_batches.
        world_size: the number of devices.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(f"{in_short(error)}\n{proposal(batch_size, accumulated, world_size)}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this process had too little, on the CPU or a GPU; a loader's worker is another process."""
    if "DataLoader worker" in str(error):
        return False
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or bool(SAID.search(str(error)))


def in_short(error: BaseException) -> str:
    """How much was asked for and how much there is, of torch's long line."""
    text = re.sub(r"^\[enforce fail at [^\]]*\]\.?\s*", "", str(error).splitlines()[0]) if str(error) else ""
    facts = re.split(r"(?<=\.) (?:Including|Process|Of the allocated|If reserved)|(?: Error code)", text)[0]
    return f"out of memory: {facts or 'the system has no more'}"


def proposal(batch_size: int, accumulated: int, world_size: int) -> str:
    """Batches smaller by the least factor that shares them out evenly, and so many times as many for a step."""
    each = batch_size // world_size
    said = f"data.batch_size={batch_size} is {each} images on each of {world_size} devices"
    if each == 1:
        return f"{said}: lower data.image_size, take a smaller model, or trainer.precision=bf16-mixed"
    factor = next(n for n in range(2, each + 1) if each % n == 0)
    typed = f"data.batch_size={batch_size // factor} trainer.accumulate_grad_batches={accumulated * factor}"
    return f"{said}\nthe same {batch_size * accumulated} images a step, in less memory: {typed}"
