"""Train, then test the best checkpoint: `python src/train.py model=se_resnext data=imagenet trainer.devices=2`."""

import logging
from pathlib import Path

from fovea.cli.entry import entry  # isort: skip  # first, because it reports missing dependencies
from omegaconf import DictConfig, OmegaConf

from fovea.cli.screen import log_loading
from fovea.config import resume_rules, saved
from fovea.distributed.rank import is_first
from fovea.runs import summary

log = logging.getLogger(__name__)


@entry("train", "resume", "rerun")
def main(cfg: DictConfig) -> None:
    """Fit, test, and write the results into the run's folder."""
    log_loading(f"run folder: {summary.short_path(cfg.run_dir)}")
    # Importing torch takes seconds, so it is imported only after the config was checked.
    from fovea import build, collect
    from fovea.distributed import ranks
    from fovea.distributed.gather import gather
    from fovea.loggers import hyperparameters
    from fovea.models.weights import load_weights
    from fovea.runs import lock, provenance, rerun, run_folder
    from fovea.runs.checkpoint import to_resume, to_start_from
    from fovea.training.out_of_memory import suggest_smaller_batch
    from fovea.training.stop_signals import StopSignals, exit_if_blocked

    folder, resumed = Path(cfg.run_dir), cfg.resume
    cfg.resume = None
    first = is_first()
    results = run_folder.Results(folder, cfg.monitor, writes=first)
    with (
        lock.lock_folder(folder, first),
        exit_if_blocked(lambda: results.end(status="interrupted")),
        StopSignals(),
        results.status(),
        ranks.coordinated(folder, results.end),
    ):
        checkpoint = to_resume(folder) if resumed else cfg.ckpt_path and to_start_from(Path(cfg.ckpt_path))
        data = build.datamodule(cfg)
        task = build.task(cfg)
        build.check_loss(task, data, data.splits)
        if first:
            build.check_metrics(cfg, data, ("val", "test"))
        if cfg.weights:
            load_weights(task.network, cfg.weights, cfg.class_names, cfg.weights_min_share)
        trainer = build.trainer(cfg)
        build.check_validation(cfg, trainer)
        if first:
            build.check_network(cfg, task)
        log.info(build.summary(cfg, data, task, trainer))
        build.check_batch(cfg, data, task, trainer)
        if first:
            build.warn_if_busy(trainer)
            start = provenance.start(cfg.seed, data.fingerprint(), trainer.world_size)
            if resumed:
                start = provenance.resumed(folder, start, cfg.forced, cfg.force)
                for line in resume_rules.changed_schedule(cfg, folder):
                    log.warning("the schedule changes with the run's length: %s", line)
            elif cfg.rerun:
                rerun.warn_about_changes(Path(cfg.rerun), start, resume_rules.changed_values(cfg, Path(cfg.rerun)))
            saved.save(cfg, folder)
            provenance.add(folder, start)
        results.update()
        hyperparameters.log_start(trainer.loggers, task.config)
        with suggest_smaller_batch(cfg.data.batch_size, cfg.trainer.accumulate_grad_batches, trainer.world_size):
            trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        results.update(**run_folder.fit_results(trainer, cfg.monitor))
        saver = run_folder.best_checkpoint_callback(trainer, cfg.monitor)
        best = Path(saver.best_model_path) if saver else folder / "checkpoints" / "best.ckpt"
        tested = str(best) if best.exists() else None
        trainer.test(task, datamodule=data, ckpt_path=tested, weights_only=True, verbose=False)
        unreadable = sorted(set(results.content.get("unreadable", [])).union(*gather(data.unreadable)))
        tested_on = "val" if data.splits["test"] is data.splits["val"] else "test"
        results.update(test=run_folder.figures(trainer, "test"), tested_on=tested_on, unreadable=unreadable)
        assert task.evaluation is not None
        predicted = collect.gathered(data, "test", task.tested)
        measured: list[int] = gather(task.evaluation.of_network.measured)
        hyperparameters.log_end(trainer.loggers, task.config, results.content, trainer.global_step)
        if first:
            collect.write_predictions(folder, predicted)
            run_folder.write_per_class(folder / "per_class.csv", data.class_names, task.per_class)
            log.info(summary.tested_text(results.content, best if tested else None, sum(measured), tested_on, "test"))
            summary.log_figures("test", results.content["test"], data.class_names, task.per_class, cfg.monitor)
    if first:
        summary.log_next_commands(
            summary.next_commands(folder, summary.prolonging_override(cfg.trainer.max_epochs, cfg.trainer.max_steps))
        )
    if first and OmegaConf.select(cfg, "rerun"):
        rerun.check_identical(Path(cfg.rerun), folder)


if __name__ == "__main__":
    main()
