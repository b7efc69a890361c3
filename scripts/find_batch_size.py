"""Find a batch size that fits and is fast: `python scripts/find_batch_size.py [overrides of train.py]`."""

import gc
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fovea.cli.entry import entry  # isort: skip  # first, because it reports missing dependencies
from omegaconf import DictConfig

if TYPE_CHECKING:
    from fovea.data.loading.datamodule import ImageDataModule
    from fovea.data.loading.dataset import Batch

log = logging.getLogger(__name__)
ALONE = {  # keys of the trainer that differ from the training's
    **{"devices": 1, "num_nodes": 1, "strategy": "auto", "accumulate_grad_batches": 1},
    **{"max_epochs": 1, "min_epochs": None, "max_steps": -1, "min_steps": None, "max_time": None},
    **{"limit_train_batches": None, "limit_val_batches": 0, "overfit_batches": 0.0, "fast_dev_run": False},
    **{"enable_checkpointing": False, "enable_progress_bar": False, "profiler": None, "sync_batchnorm": False},
}


@entry("find_batch_size")
def main(cfg: DictConfig) -> None:
    """Measure and print."""
    from fovea import build

    cfg.data.progressive.batch_size = None
    data = build.datamodule(cfg)
    limit = cfg.largest or len(data.splits["train"])
    if limit < cfg.smallest:
        raise ValueError(f"smallest={cfg.smallest} is more than {limit}, the largest batch size to try: lower it")
    cfg.trainer.update(ALONE)
    cfg.callbacks = {}
    speeds: dict[int, float] = {}
    if is_limited_by_memory(cfg):
        search(cfg, data, limit, speeds)
    else:
        log.info("a CPU's memory is not the limit here: only the speed of each batch size is measured")
        double(cfg, data, limit, speeds)
    if speeds:
        fastest = max(speeds, key=lambda size: speeds[size])
        log.info("fastest: data.batch_size=%d, %.1f images a second on one device", fastest, speeds[fastest])
        log.info("another batch size needs another learning rate: lr_scaling=linear or sqrt, or scripts/find_lr.py")


def is_limited_by_memory(cfg: DictConfig) -> bool:
    """Return True if the training's device is not a CPU, whose system would swap or end the program."""
    from fovea import build

    return build.trainer(cfg, alone=True).strategy.root_device.type != "cpu"


def search(cfg: DictConfig, data: "ImageDataModule", limit: int, speeds: dict[int, float]) -> None:
    """Search the largest size that fits; fills in the speeds of those that do."""
    from fovea.speed.batch_size_search import largest_fitting

    def fits(size: int) -> bool:
        speed = measured(cfg, data, size)
        if speed is None:
            log.info("%6d images: out of memory", size)
        else:
            speeds[size] = speed
        return speed is not None

    largest = largest_fitting(fits, cfg.smallest, limit)
    if not largest:
        raise ValueError("not even one image fits into memory: lower data.image_size, or use a smaller model")
    end = ", the largest size to try" if largest == limit else ""
    log.info("largest that fits: data.batch_size=%d on one device%s", largest, end)


def double(cfg: DictConfig, data: "ImageDataModule", limit: int, speeds: dict[int, float]) -> None:
    """Measure doubled sizes until a step takes too long or memory is short; fills in their speeds."""
    from fovea.speed.batch_size_search import doubled

    for size in doubled(cfg.smallest, limit):
        speed = measured(cfg, data, size)
        if speed is None:
            log.info("%6d images: out of memory", size)
            return
        speeds[size] = speed
        if size / speed > cfg.longest_step and size < limit:
            log.info("stopped, because a step took longer than longest_step=%s seconds", cfg.longest_step)
            return


def measured(cfg: DictConfig, data: "ImageDataModule", size: int) -> float | None:
    """Train some steps, log and return their images per second; None if the memory was too small."""
    import torch

    from fovea import build
    from fovea.training.out_of_memory import is_out_of_memory

    cfg.data.batch_size = size
    batches = Batches(cfg, data, size)
    data.train_dataloader = lambda: batches  # type: ignore[method-assign,assignment,return-value]
    try:
        build.trainer(cfg, alone=True).fit(build.task(cfg), datamodule=data)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    speed = size * cfg.measured_steps / batches.seconds
    log.info("%6d images: %8.1f images a second, %8.1f ms a step", size, speed, 1000 * size / speed)
    return speed


class Batches:
    """Yields one batch of random pixels, with labels of the data, again and again, and measures the time of steps."""

    def __init__(self, cfg: DictConfig, data: "ImageDataModule", size: int) -> None:
        import torch

        from fovea.data.loading.dataset import Batch

        random = torch.Generator().manual_seed(cfg.seed)
        train = data.splits["train"]
        shape = (size, cfg.data.image_size, cfg.data.image_size, 3)
        self.batch = Batch(
            torch.randint(0, 256, shape, dtype=torch.uint8, generator=random).permute(0, 3, 1, 2),
            train.labels(torch.randint(len(train), (size,), generator=random)),
            torch.arange(size),
            torch.tensor([], dtype=torch.long),
        )
        self.steps, self.seconds = cfg.measured_steps, 0.0

    def __len__(self) -> int:
        return self.steps + 2

    def __iter__(self) -> "Iterator[Batch]":
        start = 0.0
        for n in range(len(self)):  # the first step is not measured, and the last one only ends the one before
            if n in (1, self.steps + 1):
                start, self.seconds = now(), now() - start
            yield self.batch


def now() -> float:
    """Wait until a GPU has finished its work, and return the time in seconds."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
