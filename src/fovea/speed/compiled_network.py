"""Compiles a network with torch.compile, in place: the names of its weights stay as they are."""

import logging
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException
from torch.compiler import config

log = logging.getLogger(__name__)
MOST_SHAPES = 256  # of batches that code is made for; torch's own limit of 8 would run further ones uncompiled


def compile_network(network: nn.Module, batch_sizes: Sequence[int], backend: Any = "inductor") -> "CompiledCall":
    """Let calls of the network run compiled code, until `uncompile`; deep copies of it are not compiled.

    Code is made for one shape of batches at a time, when the first batch of this shape arrives. The shapes are those of
    full batches, so that a last, smaller batch doesn't cost another compilation: it runs uncompiled, with the same
    result except for rounding. Hooks that are added to the network's layers while it is compiled may not be called.

    Args:
        network: (B, 3, H, W) -> (B, K).
        batch_sizes: of full batches of the training on this device, and the last one of evaluations; batches of several
            times as many images are compiled too.
        backend: what torch.compile takes.

    Raises:
        ValueError: torch can't compile on this platform; later, from a call: the code can't be compiled.
    """
    call = CompiledCall(network, batch_sizes, backend)
    call_compiled(network, call)
    return call


def call_compiled(network: nn.Module, call: "CompiledCall") -> None:
    """Let calls of the network run the code that `compile_network` returned for it."""
    # nn.Module.compile sets this attribute too; copies, pickles and the state dict leave it out
    network._compiled_call_impl = call


def uncompile(network: nn.Module) -> None:
    """Let calls of the network run its own code again."""
    network._compiled_call_impl = None


class CompiledCall:
    """Calls a network, compiled for full batches and uncompiled for others. Logs the time of each compilation."""

    def __init__(self, network: nn.Module, batch_sizes: Sequence[int], backend: Any) -> None:
        self.network, self.batch_sizes = network, [*dict.fromkeys(batch_sizes)]
        self.seen: set[tuple[Any, ...]] = set()  # what code was made for
        try:
            self.compiled = torch.compile(network._call_impl, dynamic=False, backend=backend)
        except RuntimeError as error:  # a version of Python, or a platform, without torch.compile
            raise _failed(error) from error

    def __call__(self, images: Tensor, *args: Any, **kwargs: Any) -> Any:
        sizes = self.batch_sizes if self.network.training else self.batch_sizes[-1:]
        if not len(images) or all(len(images) % size for size in sizes):
            return self.network._call_impl(images, *args, **kwargs)
        kind = (self.network.training, torch.is_grad_enabled(), images.shape, images.dtype)
        if kind in self.seen:
            return self.compiled(images, *args, **kwargs)
        self.seen.add(kind)
        return self._first(images, *args, **kwargs)

    def _first(self, images: Tensor, *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            with config.patch(recompile_limit=MOST_SHAPES):  # type: ignore[attr-defined]  # added at import
                output = self.compiled(images, *args, **kwargs)
        except TorchDynamoException as error:
            raise _failed(error) from error
        purpose = "training" if self.network.training else "evaluation"
        seconds = time.perf_counter() - start
        log.info("compiled the network for %s on batches %s in %.1f s", purpose, list(images.shape), seconds)
        return output


def _failed(error: Exception) -> ValueError:
    lines = [line for line in str(error).strip().splitlines() if line]
    reason = " ".join(lines[:2]) or type(error).__name__
    return ValueError(
        f"compile=true: torch.compile failed: {reason[:300]}\n"
        "It needs a C++ compiler (g++) on the CPU, and Triton with a C compiler on a GPU: install them, or type "
        "compile=false"
    )
