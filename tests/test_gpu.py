import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import SMALL
from lightning import Callback
from PIL import Image
from tasks import Data, make_batches, make_task, make_trainer

from fovea.callbacks.finite_loss import finite_loss
from fovea.data.index import Index
from fovea.data.loading.batch_samplers import TrainBatchSampler
from fovea.data.loading.dataset import ImageDataset
from fovea.data.loading.device_decode import DeviceDecodeLoader
from fovea.data.loading.loader import BatchLoader
from fovea.data.loading.resident import ResidentImages, ResidentLoader
from fovea.data.loading.samplers import Shuffled
from fovea.data.pixels.augment import Augment
from fovea.data.pixels.crop import PaddedCrop, RandomResizedCrop

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]


@pytest.mark.parametrize("precision", ["32-true", "16-mixed", "bf16-mixed"])
def test_a_gpu_trains_and_measures_as_the_cpu_does(
    invoke: Callable[..., tuple[int, str, str]], runs: Callable[[], list[Path]], folder: Path, precision: str
) -> None:
    data = ("data=folder", f"data.root={folder}", *SMALL, "data.num_workers=2")
    code, _, err = invoke("train", *data, "trainer=gpu", f"trainer.precision={precision}")
    assert code == 0, err
    (run,) = runs()
    for accelerator in ("gpu", "cpu"):
        assert (
            invoke("evaluate", f"run={run}", f"trainer.accelerator={accelerator}", "trainer.precision=32-true")[0] == 0
        )
    gpu, cpu = (json.loads(file.read_text())["test"] for file in sorted(run.glob("evaluate/*/results.json")))
    assert gpu["loss"] == pytest.approx(cpu["loss"], rel=1e-2)


@pytest.fixture
def photos(tmp_path: Path) -> Index:
    """16 smooth JPEGs of different sizes, and two PNGs."""
    y, x = np.mgrid[:300, :300]
    paths = [str(tmp_path / f"{i}.{'png' if i % 9 == 8 else 'jpg'}") for i in range(18)]
    for i, path in enumerate(paths):
        waves = np.stack([128 + 100 * np.sin(x / (9 + k)) * np.cos((y + i) / (13 - k)) for k in range(3)], axis=-1)
        Image.fromarray(waves[: 200 + i, : 300 - i].astype(np.uint8)).save(path)
    return Index(paths, torch.arange(18) % 3)


GPU = torch.device("cuda")


def test_a_gpu_decodes_what_the_cpu_decodes_within_3_of_255_in_the_mean(photos: Index) -> None:
    """nvJPEG and libjpeg-turbo round differently, and interpolate chroma differently."""
    dataset = ImageDataset(photos, Augment(RandomResizedCrop(64, draft=0)), seed=5)
    batches = TrainBatchSampler(Shuffled(photos), 6, seed=0)
    ours = list(DeviceDecodeLoader(dataset, batches, 2, GPU))
    for on_gpu, on_cpu in zip(ours, BatchLoader(dataset, batches, 0), strict=True):
        assert on_gpu.images.device.type == on_gpu.targets.device.type == "cuda"
        assert torch.equal(on_gpu.indices, on_cpu.indices)
        assert torch.equal(on_gpu.targets.cpu(), on_cpu.targets)
        assert (on_gpu.images.cpu().int() - on_cpu.images.int()).abs().float().mean() < 3


@pytest.mark.parametrize("crop", [PaddedCrop(32), RandomResizedCrop(32)], ids=["padded", "resized"])
def test_images_resident_on_a_gpu_are_those_of_the_files_within_1_of_255(
    photos: Index, crop: PaddedCrop | RandomResizedCrop
) -> None:
    dataset = ImageDataset(photos, Augment(crop), seed=5)
    batches = TrainBatchSampler(Shuffled(photos), 6, seed=0)
    resident = ResidentLoader(ResidentImages(dataset, GPU), dataset, batches)
    for on_gpu, on_cpu in zip(resident, BatchLoader(dataset, batches, 0), strict=True):
        assert on_gpu.images.device.type == "cuda"
        assert (on_gpu.images.cpu().int() - on_cpu.images.int()).abs().max() <= 1


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_for_a_gpu_are_pinned_and_their_slots_come_back(photos: Index, num_workers: int) -> None:
    dataset = ImageDataset(photos, Augment(RandomResizedCrop(32)), seed=5)
    batches = TrainBatchSampler(Shuffled(photos), 6, seed=0)
    loader = BatchLoader(dataset, batches, num_workers, pin_memory=True, persistent=num_workers > 0)
    for epoch in range(3):
        batches.start_at(epoch, 0)
        for pinned, plain in zip(loader, BatchLoader(dataset, batches, 0), strict=True):
            assert pinned.images.is_pinned()
            assert torch.equal(pinned.images, plain.images)


@pytest.mark.parametrize("option", ["data.decode=cuda", "data.resident=true"])
def test_it_trains_with_each_way_to_a_gpu(
    invoke: Callable[..., tuple[int, str, str]], folder: Path, option: str
) -> None:
    code, _, err = invoke("train", "data=folder", f"data.root={folder}", *SMALL, "trainer=gpu", option)
    assert code == 0, err


def test_running_out_of_memory_says_what_to_type(
    invoke: Callable[..., tuple[int, str, str]], runs: Callable[[], list[Path]], folder: Path
) -> None:
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((256 << 20) / torch.cuda.get_device_properties(0).total_memory)
    try:
        size = ("data.image_size=512", "data.batch_size=36")
        code, _, err = invoke("train", "data=folder", f"data.root={folder}", *SMALL, *size, "trainer=gpu")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert code == 2, err
    assert "error: out of memory: CUDA" in err
    assert "data.batch_size=18 trainer.accumulate_grad_batches=2" in err
    assert len(err.splitlines()) < 10
    assert json.loads((runs()[0] / "results.json").read_text())["status"] == "failed"


def test_a_skipped_step_leaves_weights_and_the_scale_of_half_precision_as_they_were(tmp_path: Path) -> None:
    class Traces(Callback):
        def __init__(self) -> None:
            self.states: list[tuple[float, torch.Tensor]] = []

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            weights = torch.cat([tensor.float().flatten() for tensor in pl_module.network.state_dict().values()])
            self.states.append((trainer.precision_plugin.scaler.get_scale(), weights))

    batches, traces = make_batches(4), Traces()
    batches[2] = batches[2]._replace(images=batches[2].images * torch.nan)
    trainer = make_trainer(
        finite_loss("skip", str(tmp_path)), traces, max_epochs=1, accelerator="gpu", precision="16-mixed"
    )
    trainer.fit(make_task(), datamodule=Data(batches))
    assert len({scale for scale, _ in traces.states}) == 1
    assert torch.equal(traces.states[1][1], traces.states[2][1])
    assert not torch.equal(traces.states[2][1], traces.states[3][1])


def test_an_average_on_a_gpu_is_evaluated_and_resumed(
    invoke: Callable[..., tuple[int, str, str]], runs: Callable[[], list[Path]], folder: Path
) -> None:
    data = ("data=folder", f"data.root={folder}", *SMALL, "trainer=gpu", "trainer.precision=16-mixed")
    assert invoke("train", *data, "callbacks=[default,ema]", "monitor=val/ema_accuracy", "mixing=mixup_cutmix")[0] == 0
    (run,) = runs()
    assert invoke("train", f"resume={run}", "trainer.max_epochs=2")[0] == 0
    assert "ema_accuracy" in json.loads((run / "results.json").read_text())["test"]
