"""The LightningModule: defines what is done with a batch. Its parts are built elsewhere and passed to it."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torchmetrics import Metric

from fovea.training import class_means, loop_state, meter
from fovea.training.batch_loss import BatchLoss, Loss, MeasuredObjective, Objective
from fovea.training.evaluation import Evaluation
from fovea.training.meter import Meter
from fovea.training.optimization import Optimization, is_plateau, scaled_for
from fovea.training.step_seed import seed_step

log = logging.getLogger(__name__)

# sections of the config that rates follow from
RATES = ("scheduler", "warmup", "optimizer", "lr_scaling", "lr_reference_batch")
Batch = tuple[Tensor, ...]  # images, target, indices, indices of images that could not be read


class ClassificationTask(LightningModule):
    """Trains and measures a classifier, single-label or multi-label.

    Logs `<split>/loss` and `<split>/<metric>` per epoch, and `train/loss_step` every trainer.log_every_n_steps. Logged
    losses are means over what is known, for reduction=sum too; an epoch's is that of all its targets.

    Attributes:
        also_evaluated: other networks that validation and test measure, by the prefix of their figures' names
            ("ema_"). Callbacks add them; they are not in the module's state.
        evaluation: the current or last validation or test.
        averaged_views: (a network) -> the network that validation, test and prediction use instead, such as one that
            averages over views of an image.
        per_class: after a test, {metric: (K,) tensor}.
        tested: after a test, this rank's batches as `predict_step` returns them, of the network that the monitor
            measures.
        rejects: (a training loss) -> True if the batch must not count; called on all ranks. The callback that sets it
            also prevents the step.
        counted: True if the last training batch had an image and was not rejected.
        batch_loss: of the last training batch, before the optimizer's step.
    """

    def __init__(
        self,
        task: Literal["multiclass", "multilabel"],
        network: nn.Module,
        preprocess: nn.Module,
        mixing: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        loss: Loss,
        objective: Callable[[Loss], Objective] | None,
        metrics: Mapping[str, Metric],
        per_class_metrics: Mapping[str, Metric],
        optimization: Optimization,
        seed: int,
        config: dict[str, Any],
        logit_shift: Tensor | None = None,
    ) -> None:
        """Args:
        network: (B, 3, H, W) float -> (B, K) logits.
        preprocess: (B, 3, H, W) uint8 -> the network's float input.
        mixing: (the network's input, target) -> the same of a mixed training batch, target (B, K) float.
        loss: (logits, target) -> scalar, the mean over what is known; or unreduced, see BatchLoss.
        objective: makes the training's objective from its loss; None: the network is not trained.
        metrics: updated with (probabilities (B, K), integer target) of some batches at once; each gives a scalar.
        per_class_metrics: the same, each gives (K,); for test alone.
        seed: the steps' randomness follows from it.
        config: plain containers, kept in every checkpoint.
        logit_shift: (K,), added to the logits before probabilities and metrics are computed; None: nothing is.
        """
        super().__init__()
        self.logit_shift: Tensor | None
        self.register_buffer("logit_shift", logit_shift, persistent=False)
        self.task: Literal["multiclass", "multilabel"] = task
        self.network, self.preprocess, self.mixing, self.loss = network, preprocess, mixing, BatchLoss(loss, task)
        self.objective = objective and MeasuredObjective(objective, self.loss)
        self.optimization, self.monitor, self.seed, self.config = optimization, optimization.monitor, seed, config
        self.metrics, self.per_class_metrics = dict(metrics), dict(per_class_metrics)
        self.train_meter = Meter("train/", task, self.metrics)
        self.also_evaluated: dict[str, nn.Module] = {}
        self.evaluation: Evaluation | None = None
        self.averaged_views: Callable[[nn.Module], nn.Module] = lambda network: network
        self.per_class: dict[str, Tensor] = {}
        self.tested: list[tuple[Tensor, Tensor, Tensor]] = []
        self.class_means_log = class_means.ClassMeansLog(self.monitor, config.get("class_names"))
        self.rejects: Callable[[Tensor], bool] = lambda loss: False
        self.counted, self.batch_loss = True, torch.tensor(torch.nan)
        self.is_first_call = True  # the next call of training_step is its batch's first
        self.resumed: dict[str, Any] | None = None  # the checkpoint that a training goes on from, until it has begun

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, K) logits."""
        return self.network(self.preprocess(images))

    def probabilities(self, logits: Tensor) -> Tensor:
        """(B, K), float32: softmax over the classes, or a sigmoid for each, of the adjusted logits."""
        return meter.probabilities(self.adjusted(logits), self.task)

    def adjusted(self, logits: Tensor) -> Tensor:
        """(B, K) -> (B, K): add `logit_shift`."""
        return logits if self.logit_shift is None else logits.float() + self.logit_shift

    # training

    def on_train_start(self) -> None:
        self.train_meter.to(self.device)
        if self.resumed is not None:
            self._restore(self.resumed)
        self.resumed = None

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self.is_first_call = True
        self._seed_step()

    def _seed_step(self) -> None:
        seed_step(self.seed, self.trainer.fit_loop.epoch_loop.total_batch_idx, self.global_rank, self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """Return the loss that the optimizer minimizes.

        LBFGS calls this many times for a batch, at weights that it tries. All calls draw the same random numbers, and
        only the first one is measured.
        """
        is_first, self.is_first_call = self.is_first_call, False
        if not is_first:
            self._seed_step()
        self.counted = False
        if not len(batch[0]):
            if self.trainer.world_size == 1:
                return None  # no step
            raise ValueError("no image of a rank's batch could be read, and the other ranks can't step without it")
        images, target = self.mix(self.preprocess(batch[0]), batch[1])
        assert self.objective is not None
        loss, logits = self.objective(self.network, images, target)
        if is_first:
            self.batch_loss = loss.mean.detach()
        if self.rejects(loss.value):  # DDP needs gradients from every rank: zeros
            return torch.stack([(p * 0).sum() for p in self.network.parameters() if p.requires_grad]).sum()
        if is_first:
            self.train_meter.update(loss, logits, target)
        self.counted = True
        return loss.value

    def mix(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Apply `mixing`. A label that is mixed with an unknown label is unknown."""
        if self.task == "multiclass":
            return self.mixing(images, target)
        images, target = self.mixing(images, target.masked_fill(target == -1, torch.nan))
        return images, target.nan_to_num(nan=-1.0)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Make an optimizer step follow the mean loss of its batches; an epoch's last step may have fewer of them.

        Lightning has divided the loss by accumulate_grad_batches.
        """
        every = self.trainer.accumulate_grad_batches
        first = self.trainer.fit_loop.epoch_loop.batch_idx // every * every
        batches = min(every, self.trainer.num_training_batches - first)
        super().backward(loss if batches == every else loss * (every / batches), *args, **kwargs)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Log the loss in the steps that the loggers write; `self.log` takes as long as a step of a small network."""
        if self.trainer._logger_connector.should_update_logs:
            self.log("train/loss_step", self.batch_loss, on_step=True, on_epoch=False)

    def on_train_epoch_end(self) -> None:
        self._log(self.train_meter.compute())
        if loop_state.has_ended(self.trainer):  # else a checkpoint has to hold it, for the run to go on from
            self.train_meter.reset()

    # validation, test and prediction

    def on_validation_start(self) -> None:
        self._evaluate_on("val", {})

    def on_test_start(self) -> None:
        self.tested = []
        self._evaluate_on("test", self.per_class_metrics)

    def _evaluate_on(self, split: str, per_class: Mapping[str, Metric]) -> None:
        def new_meter(prefix: str) -> Meter:
            return Meter(f"{split}/{prefix}", self.task, self.metrics, per_class).to(self.device)

        networks = {"": self.network, **self.also_evaluated}
        views = {prefix: self.averaged_views(network) for prefix, network in networks.items()}
        self.evaluation = Evaluation(views, new_meter, self.adjusted)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        assert self.evaluation is not None
        self.evaluation.update(self.preprocess(batch[0]), batch[1], self.loss)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        assert self.evaluation is not None
        logits = self.evaluation.update(self.preprocess(batch[0]), batch[1], self.loss)
        probabilities = self.probabilities(logits[self.tested_prefix])  # (B, K)
        self.tested.append((probabilities.cpu(), batch[2].cpu(), batch[3].cpu()))

    @property
    def tested_prefix(self) -> str:
        """The prefix of the figures of the network that the monitor measures; "" before the first evaluation."""
        return self.evaluation.prefix_of(self.monitor) if self.evaluation else ""

    @property
    def tested_network(self) -> nn.Module:
        """The network that the monitor measures, the trained one or an average; it sees one view of an image."""
        return self.also_evaluated.get(self.tested_prefix, self.network)

    def on_validation_epoch_end(self) -> None:
        assert self.evaluation is not None
        self._log(self.evaluation.compute())

    def on_test_epoch_end(self) -> None:
        assert self.evaluation is not None
        self._log(self.evaluation.compute())
        self.per_class = self.evaluation.compute_per_class()

    def _log(self, figures: Mapping[str, Tensor]) -> None:
        """Log figures that are the same on all ranks; their maximum is exact, while a mean could be rounded."""
        for name, value in figures.items():
            self.log(name, value.float(), sync_dist=True, reduce_fx="max")

    def on_validation_end(self) -> None:
        self.optimization.validated = True
        if not self.trainer.sanity_checking:
            self._log_undefined("val")

    def on_test_end(self) -> None:
        self._log_undefined("test")

    def _log_undefined(self, split: str) -> None:
        assert self.evaluation is not None
        if self.trainer.is_global_zero:
            names = [name for name in self.trainer.callback_metrics if name.startswith(f"{split}/")]
            undefined = [name for name in names if self.is_undefined(name)]
            self.class_means_log.update(split, self.evaluation.of_network.metrics, undefined)

    @property
    def labels_known(self) -> bool:
        """Return True if any label of the last validation or test is known."""
        return self.evaluation is None or self.evaluation.of_network.labels_known

    def is_undefined(self, name: str) -> bool:
        """Return True if a figure is nan because labels are missing."""
        return class_means.is_undefined(name, self.trainer.callback_metrics, self.labels_known)

    def predict_step(self, batch: Batch, batch_idx: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return (probabilities (B, K), indices (B,), indices of the images that could not be read (S,))."""
        images, _, indices, unreadable = batch
        logits = self.averaged_views(self.network)(self.preprocess(images))
        return self.probabilities(logits), indices, unreadable

    # optimizer and checkpoint

    def configure_optimizers(self) -> Any:
        return self.optimization.configure(self.network)

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        self.optimization.step(scheduler, metric, metric is not None and self.is_undefined(self.monitor))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"] = self.config
        checkpoint["running"] = {
            "meter": self.train_meter.states(),
            "logged": {name: value.item() for name, value in self.trainer._logger_connector._callback_metrics.items()},
            "validated": self.optimization.validated,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember what `on_train_start` restores.

        Raises:
            ValueError: a weight has another shape in the checkpoint, as of a network for another image size.
        """
        own = self.state_dict()
        for name, tensor in checkpoint["state_dict"].items():
            if name in own and own[name].shape != tensor.shape:
                raise ValueError(
                    f"{self.trainer.ckpt_path}: {name} is {tuple(tensor.shape)} in the checkpoint and "
                    f"{tuple(own[name].shape)} in this network\n"
                    "Type the model's options and the data.image_size of the checkpoint's run"
                )
        if self.trainer.state.fn == "fit":
            self.resumed = {key: checkpoint[key] for key in ("running", "config")}

    def _restore(self, checkpoint: Mapping[str, Any]) -> None:
        """Restore the epoch's figures so far, and the last validation's, which a plateau schedule may still need.

        If the run was prolonged, has other rates, or its rates are scaled for steps of another size, the checkpoint's
        schedule and the options of its optimizer are replaced by the new ones.
        """
        then, now = scaled_for(checkpoint["config"]), scaled_for(self.config)
        changed = any(checkpoint["config"].get(key) != self.config.get(key) for key in RATES)
        (schedule,), (optimizer,) = self.trainer.lr_scheduler_configs, self.trainer.optimizers
        if changed or then != now:
            self.optimization.replace(optimizer, schedule.scheduler)
        if then != now and is_plateau(schedule.scheduler):
            text = "a plateau schedule keeps the checkpoint's learning rates, for %s images of a step instead of %s"
            log.warning(text, then, now)
        running = checkpoint["running"]
        self.train_meter.load(running["meter"], self.global_rank, self.trainer.world_size)
        logged = {name: torch.tensor(value, device=self.device) for name, value in running["logged"].items()}
        self.trainer._logger_connector._callback_metrics.update(logged)
        self.optimization.validated = running["validated"]
