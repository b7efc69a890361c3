"""Loads a trained run in Python: `load_run("<run folder>")("photo.jpg")` returns class names and probabilities."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, overload

import hydra
import torch
from hydra.utils import instantiate
from lightning.pytorch.plugins import Precision
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torchmetrics import Metric

from fovea import build
from fovea.cli.command import read_command
from fovea.cli.environment import load_environment
from fovea.cli.paths import with_value
from fovea.config.check import check
from fovea.config.defaults import own_hydra
from fovea.config.resolvers import resolvers
from fovea.data.loading.batch_samplers import EvalBatchSampler
from fovea.data.loading.given_images import GivenImages, OneImage, is_single_image
from fovea.data.pixels.augment import Augment
from fovea.parts import network_parts
from fovea.report import calibration_file
from fovea.results import collect
from fovea.results.run_tables import RunComparison, RunTables
from fovea.runs import checkpoint
from fovea.runs.results_file import results_of
from fovea.task import ClassificationTask

log = logging.getLogger(__name__)


class Prediction(NamedTuple):
    """The prediction for one image.

    Attributes:
        labels: single-label: only the most probable class. Multi-label: all classes with a probability of at least
            `threshold`, the most probable first; may be empty.
        probabilities: {class name: probability} of every class, the most probable first.
    """

    labels: list[str]
    probabilities: dict[str, float]

    @property
    def label(self) -> str:
        """The name of the most probable class."""
        return next(iter(self.probabilities))

    @property
    def probability(self) -> float:
        """The probability of the most probable class."""
        return self.probabilities[self.label]


@dataclass(frozen=True, eq=False)
class LoadedRun:
    """A trained network that is called with images and returns predictions.

    Attributes:
        folder: the run's folder.
        checkpoint: the file of the weights: the run's best checkpoint, or its last if it has no best one.
        task: the network with its preprocessing and `probabilities(logits)`; in eval mode, on `device`.
        config: the run's config, resolved, as plain containers; secrets are masked.
        metrics: the test figures of results.json, None where undefined; empty if the run was not tested.
        augment: the transform that crops images for an evaluation.
        precision: Lightning's plugin for trainer.precision.
        used: what predictions are made with, which a calibration must have been fitted to.
    """

    folder: Path
    checkpoint: Path
    task: ClassificationTask
    config: dict[str, Any]
    metrics: dict[str, float | None]
    augment: Augment
    precision: Precision
    used: calibration_file.Used

    @property
    def network(self) -> nn.Module:
        """(B, 3, S, S) float, the output of `preprocess` -> (B, K) logits."""
        return self.task.network

    @property
    def preprocess(self) -> nn.Module:
        """(B, 3, S, S) uint8 -> (B, 3, S, S) float, the network's input."""
        return self.task.preprocess

    @property
    def class_names(self) -> list[str]:
        """The K classes, in the order of the logits."""
        names: list[str] = self.config["class_names"]
        return names

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.network.parameters()).device

    @property
    def tables(self) -> RunTables:
        """The run's test metrics, history and test predictions as data frames."""
        return RunTables(self.folder)

    def compare(self, other: "LoadedRun | str | PathLike[str]") -> RunComparison:
        """Compare the test predictions with those of another run on the same images.

        Args:
            other: a loaded run, or the folder of a run or of an evaluation.

        Raises:
            ValueError: pandas is not installed, one of them has no predictions of a test, or they are of other images.
        """
        folder = other.folder if isinstance(other, LoadedRun) else Path(other).expanduser()
        return self.tables.compare(folder, build.named_as_tested(self.task.metrics, self.task.monitor))

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, images: OneImage, threshold: float = ..., calibrated: bool = ...
    ) -> Prediction: ...
    @overload
    def __call__(
        self, images: Iterable[OneImage], threshold: float = ..., calibrated: bool = ...
    ) -> list[Prediction]: ...
    def __call__(self, images: Any, threshold: float = 0.5, calibrated: bool = False) -> Prediction | list[Prediction]:
        """Predict one image, or several in batches of data.batch_size.

        Args:
            images: one image or an iterable of images. An image is a path, a PIL image, a uint8 array (H, W, 3) or a
                uint8 tensor (3, H, W), both RGB. A batch (N, ...) of arrays or tensors counts as N images.
            threshold: the smallest probability of a label, for multi-label runs.
            calibrated: divide the logits by the temperature that was fitted on the validation split, as predict.py's
                calibrated=true does.

        Raises:
            ValueError: an image can't be read, or has another type; `calibrated`, and the run has no calibration.json.
        """
        if is_single_image(images):
            return self([images], threshold, calibrated)[0]
        fitted = self._fitted if calibrated else None
        rows = torch.cat([torch.empty(0, len(self.class_names)), *map(self._probabilities, self.batches(images))])
        rows = calibration_file.calibrated(fitted, rows, self.task.task) if fitted else rows
        return [self._prediction(row, threshold) for row in rows]

    @cached_property
    def _fitted(self) -> calibration_file.Fitted:
        """What was fitted on the validation split. If this was to other predictions, a warning is logged once."""
        fitted = calibration_file.read(self.folder, "calibrated=True")
        if other := calibration_file.other_use(fitted, self.used):
            log.warning("calibrated=True uses values that were fitted to %s", other)
        return fitted

    def batches(self, images: Iterable[OneImage]) -> Iterator[Tensor]:
        """Yield the images, cropped as for an evaluation, in batches (B, 3, S, S) of uint8 on `device`."""
        data = self.config["data"]
        dataset = GivenImages([*images], self.augment, data["background"])
        for keys in EvalBatchSampler(len(dataset), data["batch_size"]) if len(dataset) else ():
            yield dataset.__getitems__(keys).images.to(self.device)

    def _probabilities(self, batch: Tensor) -> Tensor:
        """(B, 3, S, S) uint8 -> (B, K) on the CPU."""
        with torch.inference_mode(), self.precision.forward_context():
            return self.task.probabilities(self.task(batch)).cpu()

    def _prediction(self, row: Tensor, threshold: float) -> Prediction:
        """Make the prediction from the probabilities `row`, (K,)."""
        values, order = row.sort(descending=True, stable=True)
        names = [self.class_names[k] for k in order.tolist()]
        probabilities = dict(zip(names, values.tolist(), strict=True))
        if self.task.task == "multiclass":
            return Prediction(names[:1], probabilities)
        return Prediction([name for name in names if probabilities[name] >= threshold], probabilities)


def load_run(run: str | PathLike[str], device: str | torch.device | None = None) -> LoadedRun:
    """Load a run as `python src/predict.py run=<run>` does: its config is checked, and no code in its files is run.

    Args:
        run: a run folder, one of its checkpoints, or "last".
        device: as torch names it; None: a GPU if there is one.

    Raises:
        ValueError: the run or the device is not there; its config or checkpoint is damaged or not allowed.
    """
    where = _device(device)
    load_environment()
    with resolvers(), network_parts.hydras_errors():
        cfg = network_parts.run_config(run, where)
        with isolate_rng():  # `build.task` seeds all generators
            task, precision = build.task(cfg, to_train=False), build.trainer(cfg, alone=True).precision_plugin
        build.check_network(cfg, task.eval(), to_train=False)
        file = checkpoint.to_evaluate(Path(cfg.run), cfg.ckpt_path)
        network_parts.load_weights(task.network, task.monitor, file)
        augment = instantiate(cfg.augment.eval, _convert_="all")
    precision.convert_module(task).to(where)
    folder = Path(cfg.run).absolute()
    metrics = results_of(folder).get("test") or {}
    used = collect.use_of(file, task.config)
    return LoadedRun(folder, file, task, task.config, metrics, augment, precision, used)


def load_metrics(run: Path) -> dict[str, Metric]:
    """Build the metrics of a run's config by name. Raises ValueError if the config is damaged or not allowed."""
    with network_parts.hydras_errors(), own_hydra():
        command = read_command("report", ("run",), [with_value("run", run)])
        cfg = hydra.compose(command.config_name, command.words)
        check(cfg, "report", command.source)
        return build.tested_metrics(cfg)


def _device(asked: str | torch.device | None) -> torch.device:
    if asked is None:
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        return torch.zeros(1, device=asked).device
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch was built without it
        raise ValueError(f'device={asked}: {str(error).splitlines()[0]}\ndevice="cpu" always works') from error
