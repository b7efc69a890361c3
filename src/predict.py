"""Predict images: `python src/predict.py run=<run folder> source=<images> output=<file>`."""

import logging
from pathlib import Path

from fovea.cli.entry import entry  # isort: skip  # first, because it reports missing dependencies
from omegaconf import DictConfig

from fovea.cli.screen import log_loading
from fovea.config import saved
from fovea.runs import summary

log = logging.getLogger(__name__)


@entry("predict", "run")
def main(cfg: DictConfig) -> None:
    """Write a checkpoint's predictions as a table, and list the files that could not be read."""
    if not cfg.source:
        raise ValueError("source=<an image, a folder, or a .txt list> is missing")
    log_loading(f"predicting with {summary.short_path(cfg.run)}")
    from fovea.distributed import ranks

    with ranks.coordinated(Path(cfg.output_dir)):
        predict(cfg)


def predict(cfg: DictConfig) -> None:
    """Run the prediction on this rank."""
    from fovea import build
    from fovea.data.sources.image_files import read_files
    from fovea.distributed.gather import gather
    from fovea.report import calibration_file, predictions
    from fovea.results import collect
    from fovea.runs.checkpoint import to_evaluate

    output = Path(cfg.output or f"{cfg.output_dir}/predictions.csv")
    predictions.check_output(output)
    checkpoint = to_evaluate(Path(cfg.run), cfg.ckpt_path, saved.plain(cfg))
    check_decisions(cfg)
    typed = {"calibrated=true": cfg.calibrated, "reject=auto": cfg.reject == "auto"}
    wanted = [text for text, is_typed in (typed | {"threshold=tuned": cfg.threshold == "tuned"}).items() if is_typed]
    fitted = calibration_file.read(Path(cfg.run), wanted[0]) if wanted else None
    index = read_files(Path(cfg.source).expanduser())
    task, trainer = build.task(cfg, to_train=False), build.trainer(cfg, alone=True)
    if trainer.is_global_zero:
        task.eval()
        build.check_network(cfg, task, to_train=False)
    loader = build.files_loader(cfg, task, index, trainer.global_rank, trainer.world_size)
    batches = trainer.predict(task, loader, ckpt_path=str(checkpoint), weights_only=True) or []
    probabilities, indices, unreadable = predictions.sort_by_index(
        batch for of_rank in gather(batches) for batch in of_rank
    )
    if not trainer.is_global_zero:
        return
    if not len(probabilities):
        raise ValueError(f"source={cfg.source}: none of the {len(index)} files could be read, such as {index.paths[0]}")
    paths = [index.paths[i] for i in indices.tolist()]
    if fitted and (cfg.calibrated or cfg.reject == "auto"):
        probabilities = calibration_file.calibrated(fitted, probabilities, cfg.task)
        log.info("probabilities are calibrated: the temperature is %.3f", fitted.temperature)
    if cfg.logit_adjustment:
        log.info("probabilities are adjusted to equally frequent classes: logit_adjustment=%s", cfg.logit_adjustment)
    if fitted and cfg.tta != "none":
        log.warning("%s uses values that were fitted to predictions without tta=%s", wanted[0], cfg.tta)
    if fitted and (other := calibration_file.other_use(fitted, collect.use_of(checkpoint, cfg))):
        log.warning("%s uses values that were fitted to %s", wanted[0], other)
    if cfg.task == "multiclass":
        rows = predictions.top_k_rows(paths, probabilities, cfg.class_names, cfg.top_k)
    else:
        threshold = fitted.tuned(cfg.calibrated) if fitted and cfg.threshold == "tuned" else cfg.threshold
        rows = predictions.multilabel_rows(paths, probabilities, cfg.class_names, threshold)
    if cfg.reject is not None:
        lowest = fitted.reject_threshold if fitted and cfg.reject == "auto" else cfg.reject
        log.info(
            "%d images are below %.4f and labelled unknown", predictions.reject(rows, probabilities, lowest), lowest
        )
    if cfg.probabilities:
        rows = predictions.with_probabilities(rows, probabilities, cfg.class_names)
    predictions.write(output, rows)
    log.info("predicted %d images with %s: %s", len(rows), checkpoint.name, summary.short_path(output))
    log.info("most frequent: %s", predictions.most_frequent(rows))
    if len(unreadable):
        file = output.with_name(output.stem + ".unreadable.txt")
        file.write_text(
            "".join(f"{index.paths[i]}\n" for i in unreadable.tolist()), encoding="utf-8", errors="surrogateescape"
        )
        log.warning("%d files could not be read and have no prediction: %s", len(unreadable), summary.short_path(file))


def check_decisions(cfg: DictConfig) -> None:
    """Raise ValueError for a way to decide on labels that the run's kind of labels does not have."""
    if cfg.task == "multiclass" and cfg.threshold != 0.5:
        raise ValueError(f"threshold={cfg.threshold} is for several labels an image; this run has one: type reject=")
    if cfg.task == "multilabel" and cfg.reject is not None:
        raise ValueError(f"reject={cfg.reject} is for one label an image; this run has several: type threshold=")
    fitted = {"calibrated=true": cfg.calibrated, "reject=auto": cfg.reject == "auto"}
    if cfg.logit_adjustment and any(fitted.values()):
        typed = next(text for text, is_typed in fitted.items() if is_typed)
        raise ValueError(
            f"{typed} was fitted to probabilities without logit_adjustment={cfg.logit_adjustment}: keep one of them"
        )
    if cfg.reject is not None and "unknown" in cfg.class_names:
        raise ValueError(
            f"reject={cfg.reject}: rejected images are labelled unknown, but the run has a class of this name"
        )


if __name__ == "__main__":
    main()
