"""Train, then test the best checkpoint: `python src/train.py model=se_resnext data=imagenet trainer.devices=2`."""

import logging
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from fovea.cli.entry import entry  # isort: skip  # first, because it reports missing dependencies
from omegaconf import DictConfig, OmegaConf

from fovea.cli.screen import log_loading
from fovea.config import checkpoint_config, resume_rules, saved
from fovea.distributed.rank import is_first
from fovea.runs import summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning import Trainer

    from fovea.data.loading.datamodule import ImageDataModule
    from fovea.leaderboard.entries import Entry
    from fovea.report.prediction_file import Predictions
    from fovea.report.run.comparison import Comparison
    from fovea.runs.run_folder import Results
    from fovea.task import ClassificationTask

log = logging.getLogger(__name__)


def pool_folds(folder: Path, jobs: "Sequence[Entry]") -> list[str]:
    """Pool the folds among the jobs of a sweep at its end, and return sentences about them."""
    from fovea.load_run import load_metrics
    from fovea.results.pooled_folds import pool

    return pool(jobs, folder, load_metrics)


@entry("train", "resume", "rerun", pool_folds=pool_folds)
def main(cfg: DictConfig) -> None:
    """Fit, test, and write the results into the run's folder."""
    log_loading(f"run folder: {summary.short_path(cfg.run_dir)}")
    # Importing torch takes seconds, so it is imported only after the config was checked.
    from fovea.distributed import ranks
    from fovea.results import run_report
    from fovea.runs import lock, rerun, run_folder
    from fovea.training.stop_signals import StopSignals, exit_if_blocked

    folder, first = Path(cfg.run_dir), is_first()
    results = run_folder.Results(folder, cfg.monitor, writes=first)
    report: AbstractContextManager[None] = nullcontext()
    if first and cfg.report:
        report = run_report.written_at_the_end(folder, lambda: compare(cfg, folder))
    with (
        lock.lock_folder(folder, first),
        exit_if_blocked(lambda: results.end(status="interrupted")),
        StopSignals(),
        report,
        results.status(),
        ranks.coordinated(folder, results.end),
    ):
        run(cfg, folder, results)
    if first:
        summary.log_next_commands(
            summary.next_commands(folder, summary.prolonging_override(cfg.trainer.max_epochs, cfg.trainer.max_steps))
        )
    if first and OmegaConf.select(cfg, "rerun"):
        rerun.check_identical(Path(cfg.rerun), folder)


def run(cfg: DictConfig, folder: Path, results: "Results") -> None:
    """Build, fit and test on this rank."""
    from fovea import build
    from fovea.loggers import hyperparameters
    from fovea.models.weights.fill import load_weights
    from fovea.parts import optimization_parts
    from fovea.results import tensorboard_images
    from fovea.runs import run_folder
    from fovea.runs.checkpoint import stored_config, to_resume, to_start_from
    from fovea.training.out_of_memory import suggest_smaller_batch

    resumed, cfg.resume = cfg.resume, None
    checkpoint = to_resume(folder) if resumed else cfg.ckpt_path and to_start_from(Path(cfg.ckpt_path))
    data = build.datamodule(cfg)
    if checkpoint and not resumed:
        checkpoint_config.check_to_train(checkpoint, stored_config(checkpoint), saved.plain(cfg))
    task = build.task(cfg)
    build.check_loss(task, data, data.splits)
    if is_first():
        build.check_metrics(cfg, data, ("val", "test"))
    for key in ("weights", "ckpt_path"):
        if cfg[key]:
            resume_rules.warn_if_divided_otherwise(cfg, key, Path(cfg[key]))
    if cfg.weights:
        load_weights(task.network, cfg.weights, cfg.class_names, cfg.weights_min_share)
    trainer = build.trainer(cfg)
    build.check_validation(cfg, trainer)
    if is_first():
        build.check_network(cfg, task)
    log.info(build.summary(cfg, data, task, trainer))
    build.check_batch(cfg, data, task, trainer)
    if is_first():
        build.warn_if_busy(trainer)
        save_start(cfg, folder, data, trainer.world_size, bool(resumed))
    parameters = sum(parameter.numel() for parameter in task.network.parameters())
    results.update(network=type(task.network).__name__, parameters=parameters)
    hyperparameters.log_start(trainer.loggers, task.config)
    tensorboard_images.log_first_batch(trainer, data)
    accumulated = None if optimization_parts.is_lbfgs(cfg.optimizer) else cfg.trainer.accumulate_grad_batches
    sizes = (cfg.data.batch_size, accumulated, trainer.world_size)
    with suggest_smaller_batch(*sizes, OmegaConf.select(cfg, "data.progressive.batch_size")):
        trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    results.update(**run_folder.fit_results(trainer, cfg.monitor, results.content))
    test(cfg, folder, results, trainer, task, data)


def compare(cfg: DictConfig, folder: Path) -> "Comparison | None":
    """Compare the test with another run's, if one is asked for."""
    from fovea import build
    from fovea.results import run_report

    return run_report.compared(folder, cfg.baseline, lambda: build.tested_metrics(cfg))


def save_start(cfg: DictConfig, folder: Path, data: "ImageDataModule", world_size: int, resumed: bool) -> None:
    """Write the config and how the run was started; warn about what differs from before."""
    from fovea.runs import provenance, rerun

    start = provenance.start(cfg.seed, data.fingerprint(), world_size)
    if resumed:
        start = provenance.resumed(folder, start, cfg.forced, cfg.force)
        for line in resume_rules.changed_schedule(cfg, folder):
            log.warning("the schedule changes with the run's length: %s", line)
    elif cfg.rerun:
        rerun.warn_about_changes(Path(cfg.rerun), start, resume_rules.changed_values(cfg, Path(cfg.rerun)))
    saved.save(cfg, folder)
    provenance.add(folder, start)


def test(
    cfg: DictConfig,
    folder: Path,
    results: "Results",
    trainer: "Trainer",
    task: "ClassificationTask",
    data: "ImageDataModule",
) -> None:
    """Test the best checkpoint on this rank, and write what the report shows."""
    from fovea.distributed.gather import gather
    from fovea.loggers import hyperparameters
    from fovea.results import collect, tensorboard_images
    from fovea.runs import run_folder
    from fovea.runs.checkpoint_names import TO_EVALUATE, existing

    saver = run_folder.best_checkpoint_callback(trainer, cfg.monitor)
    best = Path(saver.best_model_path) if saver else folder / "checkpoints" / "best.ckpt"
    tested = str(best) if best.exists() else None
    trainer.test(task, datamodule=data, ckpt_path=tested, weights_only=True, verbose=False)
    unreadable = sorted(set(results.content.get("unreadable", [])).union(*gather(data.unreadable)))
    tested_on = "val" if data.splits["test"] is data.splits["val"] else "test"
    results.update(test=run_folder.figures(trainer, "test"), tested_on=tested_on, unreadable=unreadable)
    results.update(intervals={}, majority={})  # of the test before a run was prolonged
    predicted = collect.gathered(data, "test", task.tested)
    hyperparameters.log_end(trainer.loggers, task.config, results.content, trainer.global_step)
    tensorboard_images.log_confusion(trainer, predicted)
    if is_first():
        collect.remove_earlier(folder)
        collect.write_predictions(folder, predicted)
        run_folder.write_per_class(folder / "per_class.csv", data.class_names, task.per_class)
        log.info(summary.tested_text(results.content, best if tested else None, len(predicted), tested_on, "test"))
    if cfg.report and len(predicted):
        weights = best if tested else next(iter(existing(folder, TO_EVALUATE)), None)
        collect_for_report(cfg, folder, results, trainer, task, data, predicted, weights)
    if is_first():
        summary.log_figures("test", results.content, data.class_names, task.per_class, cfg.monitor)


def collect_for_report(
    cfg: DictConfig,
    folder: Path,
    results: "Results",
    trainer: "Trainer",
    task: "ClassificationTask",
    data: "ImageDataModule",
    tested: "Predictions",
    weights: Path | None,
) -> None:
    """Write what the report shows besides the figures; on all ranks, as they share the predictions.

    `weights` is the checkpoint that was tested; None: there is none.
    """
    from fovea.results import collect, suspect_labels

    validation = collect.validate(trainer, task, data)
    splits = {"test": tested} if validation is None else {"val": validation, "test": tested}
    suspects = suspect_labels.find(trainer, task, data, splits, cfg.suspects) if cfg.suspects != 0 else []
    if not is_first():
        return
    if validation is not None:
        collect.fit(folder, validation, collect.use_of(weights, task.config) if weights else None)
    results.update(**collect.compare(task, tested, cfg.class_counts))
    small = suspect_labels.write(folder, data, suspects)
    collect.keep_images(folder, task, data, tested, small)


if __name__ == "__main__":
    main()
