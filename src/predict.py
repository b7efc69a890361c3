"""Predict images: `python src/predict.py run=<run folder> source=<images> output=<file>`."""

import logging
from pathlib import Path

from fovea.cli.entry import entry  # isort: skip  # first, because it reports missing dependencies
from omegaconf import DictConfig

from fovea.cli.screen import log_loading
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
    from fovea.report import predictions
    from fovea.runs.checkpoint import to_evaluate

    output = Path(cfg.output or f"{cfg.output_dir}/predictions.csv")
    predictions.check_output(output)
    checkpoint = to_evaluate(Path(cfg.run), cfg.ckpt_path)
    index = read_files(Path(cfg.source).expanduser())
    task, trainer = build.task(cfg), build.trainer(cfg, alone=True)
    if trainer.is_global_zero:
        task.eval()
        build.check_network(cfg, task)
    loader = build.files_loader(cfg, index, trainer.global_rank, trainer.world_size)
    batches = trainer.predict(task, loader, ckpt_path=str(checkpoint), weights_only=True) or []
    probabilities, indices, unreadable = predictions.sort_by_index(
        batch for of_rank in gather(batches) for batch in of_rank
    )
    if not trainer.is_global_zero:
        return
    if not len(probabilities):
        raise ValueError(f"source={cfg.source}: none of the {len(index)} files could be read, such as {index.paths[0]}")
    paths = [index.paths[i] for i in indices.tolist()]
    rows = (
        predictions.top_k_rows(paths, probabilities, cfg.class_names, cfg.top_k)
        if cfg.task == "multiclass"
        else predictions.multilabel_rows(paths, probabilities, cfg.class_names, cfg.threshold)
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


if __name__ == "__main__":
    main()
