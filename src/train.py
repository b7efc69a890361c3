"""Train, then test the best checkpoint: `python src/train.py model=se_resnext data=imagenet trainer.devices=2`."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from fovea.config import saved
from fovea.config.entry import entry

log = logging.getLogger(__name__)


@entry("train", saved_run="resume")
def main(cfg: DictConfig) -> None:
    """Fit, test, and keep what came of it in the run's folder."""
    # Importing torch takes seconds: only now that the config is known to be good.
    from lightning.pytorch.utilities import rank_zero_only

    from fovea import build, run
    from fovea.models.weights import load_weights

    folder, resumed = Path(cfg.run_dir), cfg.resume
    cfg.resume = None
    first = rank_zero_only.rank == 0  # type: ignore[attr-defined]
    results = run.Results(folder, cfg.monitor, writes=first)
    with run.own_processes(), results.status():
        checkpoint = run.last_checkpoint(folder) if resumed else cfg.ckpt_path
        data = build.datamodule(cfg)
        task = build.task(cfg)
        if cfg.weights:
            log.info("weights=%s\n%s", cfg.weights, load_weights(task.network, cfg.weights).table())
        trainer = build.trainer(cfg)
        log.info("%s\nrun folder: %s", build.summary(cfg, data, task, trainer), folder)
        if first:
            saved.save(cfg, folder / "config.yaml")
            run.write_provenance(folder, cfg.seed, data.fingerprint())
        results.update()
        trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        results.update(**run.fitted(trainer))
        best = folder / "checkpoints" / "best.ckpt"
        if not best.exists():
            log.info("there is no best checkpoint: testing the weights as they are")
        tested = str(best) if best.exists() else None
        trainer.test(task, datamodule=data, ckpt_path=tested, weights_only=True, verbose=False)
        unreadable = run.everyones(data.unreadable | set(results.content.get("unreadable", [])))
        tested_on = "val" if data.splits["test"] is data.splits["val"] else "test"
        results.update(test=run.figures(trainer, "test"), tested_on=tested_on, unreadable=unreadable)
        if first:
            run.write_per_class(folder / "per_class.csv", data.class_names, task.per_class)
            log.info("test: %s", run.in_words(results.content["test"]))


if __name__ == "__main__":
    main()
