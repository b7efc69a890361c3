"""Show the learning rates of a training, before it: `python scripts/plot_schedule.py [overrides of train.py]`."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from fovea.cli.entry import entry  # isort: skip  # first, because it reports missing dependencies
from omegaconf import DictConfig, OmegaConf, open_dict

from fovea.config import run_length
from fovea.config.keys import names
from fovea.runs.summary import short_path

if TYPE_CHECKING:
    from fovea.report.schedule_page import Group

log = logging.getLogger(__name__)
SHOWN_EPOCHS = 100  # of a run without an end


@entry("plot_schedule")
def main(cfg: DictConfig) -> None:
    """Print the table and write the page."""
    output = Path(cfg.output)
    if output.suffix.lower() not in (".html", ".htm") or output.is_dir():
        raise ValueError(f"output={output}: give a file that ends in .html")
    from fovea.report.page import save
    from fovea.report.schedule_page import schedule_page, table

    groups, length = parameter_groups(cfg)
    facts = describe(cfg, length, len(groups[0].rates))
    warnings = notes(cfg, length)
    save(output, schedule_page("Learning rates", facts, warnings, groups, length.epoch_of))
    lines = [f"{name}: {value}" for name, value in facts]
    log.info("%s", "\n".join([*lines, "", table(groups), *warnings, f"curves: {short_path(output)}"]))


def parameter_groups(cfg: DictConfig) -> tuple[list["Group"], run_length.RunLength]:
    """Return the optimizer's groups with the rate of every step, and the run's length."""
    from fovea import build
    from fovea.optim.learning_rates import learning_rates
    from fovea.report.schedule_page import Group

    data = build.datamodule(cfg)
    data.train_batches(rank=0, world_size=1)  # raises an error if the batch size does not fit the data
    length = run_length.run_length(cfg, [cfg.epoch_images // size for size in data.batch_sizes.of_epochs()])
    forget_weights(cfg)
    configured = build.task(cfg, to_train=False).configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    steps = length.steps or int(length.steps_of(SHOWN_EPOCHS))
    rates = learning_rates(schedule, cfg.scheduler.interval, steps, length.epoch_of)
    name, several = f"lr-{type(optimizer).__name__}", len(optimizer.param_groups) > 1  # as in metrics.csv
    return [
        Group(
            f"{name}/pg{n + 1}" if several else name,
            sum(parameter.numel() for parameter in group["params"]),
            float(group.get("weight_decay", 0.0)),
            rates[:, n],
        )
        for n, group in enumerate(optimizer.param_groups)
    ], length


def forget_weights(cfg: DictConfig) -> None:
    """Remove the files that the training would start from, which change no rate and may have to be downloaded."""
    typed = [key for key in names("starts") if OmegaConf.select(cfg, key)]
    for key in typed:
        OmegaConf.update(cfg, key, None)
    if typed:
        with open_dict(cfg):
            cfg.started_from = {}  # so that freeze= causes no warning about random weights


def describe(cfg: DictConfig, length: run_length.RunLength, steps: int) -> list[tuple[str, str]]:
    """Return the facts about the run."""
    from fovea.data.progressive import batch_sizes, from_to
    from fovea.parts.optimization_parts import scaling_text

    warmup = f", after a {cfg.warmup.shape} warm-up of {cfg.warmup_length:,}" if cfg.warmup_length else ""
    run = f"{length.epochs:,} epochs, {steps:,} optimizer steps" if length.steps else "no end"
    scaled, sizes = scaling_text(cfg).partition(": ")[2], batch_sizes(cfg.data.progressive, cfg.data.batch_size)
    return [
        ("run", f"{run}; {from_to(length.epoch_steps)} steps an epoch"),
        ("batch", f"{from_to(sizes.of_epochs())} of {cfg.epoch_images:,} images"),
        ("batches of a step", str(cfg.trainer.accumulate_grad_batches)),
        ("schedule", f"{str(cfg.scheduler._target_).rpartition('.')[2]}, each {cfg.scheduler.interval}{warmup}"),
        ("optimizer", str(cfg.optimizer._target_).rpartition(".")[2]),
        *([("learning rate", scaled)] if scaled else []),
    ]


def notes(cfg: DictConfig, length: run_length.RunLength) -> list[str]:
    """Return what may make the real rates differ from these."""
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    from fovea.parts.trainer_parts import builds

    found = []
    if builds(cfg.scheduler, ReduceLROnPlateau):
        found.append(
            f"The rate depends on the validations: it is multiplied by {cfg.scheduler.factor} whenever {cfg.monitor} "
            f"was no better in {cfg.scheduler.patience} validations. Shown is the rate until then."
        )
    if length.steps is None:
        found.append(f"The run has no end: its first {SHOWN_EPOCHS} epochs are shown.")
    if cfg.trainer.max_time is not None:
        found.append(f"trainer.max_time={cfg.trainer.max_time} may end the run before its schedule ends.")
    return found


if __name__ == "__main__":
    main()
