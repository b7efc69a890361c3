"""Test a run again, as it was or on other data: `python src/evaluate.py run=<run folder> [data=...]`."""

import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from fovea.cli.entry import entry  # isort: skip  # first, because it reports missing dependencies
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from omegaconf import DictConfig

from fovea.cli.screen import log_loading
from fovea.config import resume_rules, saved
from fovea.distributed.rank import is_first
from fovea.runs import summary
from fovea.runs.results_file import results_of

if TYPE_CHECKING:
    from fovea.data.loading.datamodule import ImageDataModule

log = logging.getLogger(__name__)


@entry("evaluate", "run")
def main(cfg: DictConfig) -> None:
    """Test a checkpoint and write the figures into a new folder below the run's."""
    log_loading(f"evaluating {summary.short_path(cfg.run)}")
    from fovea.distributed import ranks

    with ranks.coordinated(Path(cfg.output_dir)):
        evaluate(cfg)


def evaluate(cfg: DictConfig) -> None:
    """Run the evaluation on this rank."""
    from fovea import build
    from fovea.distributed.gather import gather
    from fovea.results import collect, run_report
    from fovea.runs import provenance, run_folder
    from fovea.runs.checkpoint import to_evaluate

    checkpoint = to_evaluate(Path(cfg.run), cfg.ckpt_path, saved.plain(cfg))
    resume_rules.divide_as_trained(cfg, Path(cfg.run), HydraConfig.get().overrides.task)
    data = build.datamodule(cfg, to_train=False)
    same_source = resume_rules.same_source(cfg, Path(cfg.run))
    changed = is_first() and provenance.log_changed_data(Path(cfg.run), data.fingerprint(), same_source)
    tested = data.test_on(cfg.split)
    if changed and cfg.split in ("test", "val"):
        warn_if_trained_on(cfg, data)
    task = build.task(cfg, to_train=False)
    if is_first():
        task.eval()
        build.check_network(cfg, task, to_train=False)
        build.check_metrics(cfg, data, ["test"])
    build.check_loss(task, data, ["test"])
    data.evaluated = build.average_views(cfg, task, data.augment["eval"])
    trainer = build.trainer(cfg, alone=True)
    trainer.test(task, datamodule=data, ckpt_path=str(checkpoint), weights_only=True, verbose=False)
    unreadable = sorted(set().union(*gather(data.unreadable)))
    predicted = collect.gathered(data, "test", task.tested)
    if trainer.is_global_zero:
        folder, figures = Path(cfg.output_dir), run_folder.figures(trainer, "test")
        saved.save(cfg, folder)
        measured = len(data.splits["test"]) - len(unreadable)
        content = {"status": "finished", "checkpoint": str(checkpoint), "split": tested, "images": measured}
        content |= {"tta": cfg.tta, "logit_adjustment": cfg.logit_adjustment}
        content |= {"test": figures, "unreadable": unreadable}
        run_folder.write_json(folder / "results.json", content)
        collect.write_predictions(folder, predicted)
        run_folder.write_per_class(folder / "per_class.csv", data.class_names, task.per_class)
        log.info(summary.tested_text(results_of(Path(cfg.run)), checkpoint, measured, tested, cfg.split))
        if cfg.report and len(predicted):
            content |= collect.compare(task, predicted, cfg.class_counts)
            run_folder.write_json(folder / "results.json", content)
            collect.keep_images(folder, task, data, predicted, None)
        summary.log_figures(tested, content, data.class_names, task.per_class, cfg.monitor)
        if cfg.report:
            run_report.write_or_warn(
                folder, lambda: run_report.compared(folder, cfg.baseline, lambda: build.tested_metrics(cfg))
            )
        log.info("figures of each class: %s", summary.short_path(folder / "per_class.csv"))


def warn_if_trained_on(cfg: DictConfig, data: "ImageDataModule") -> None:
    """Warn with their number if tested images are training images of the run.

    This is so if the run's data, or a copy of them, are divided in another way than for the training.
    """
    from fovea import build
    from fovea.runs import provenance

    division = resume_rules.division_of(Path(cfg.run))
    own = cfg.copy()
    own.data.update({key: value for key, value in division.items() if key in own.data})
    texts = logging.getLogger("fovea")
    texts.setLevel(logging.ERROR)  # the log is about the data that are tested
    try:
        trained = build.datamodule(own, to_train=False)
    except (InstantiationException, ValueError):  # other data, which can't be divided in this way
        return
    finally:
        texts.setLevel(logging.NOTSET)
    other = provenance.changed_data(Path(cfg.run), trained.fingerprint())
    if (other and other.certain) or "train" not in trained.splits:
        return
    known, tested = frozenset(trained.splits["train"].paths), data.splits["test"].paths
    if seen := sum(path in known for path in tested):
        words = (f"data.{key}={value}" for key, value in division.items() if value is not None and value is not False)
        log.warning(
            "the run was trained on %d of the %d tested images; to test the images that it was not trained on: %s",
            *(seen, len(tested), " ".join(map(shlex.quote, words))),
        )


if __name__ == "__main__":
    main()
