"""Train, then test the best checkpoint: `python src/train.py model=se_resnext data=imagenet trainer.devices=2`."""

import logging
from pathlib import Path

from fovea.cli.entry import entry  # isort: skip  # first, for it says what is not installed
from omegaconf import DictConfig, OmegaConf

from fovea.cli.screen import say_loading
from fovea.config import resume_rules, saved
from fovea.distributed.rank import is_first
from fovea.runs import summary

log = logging.getLogger(__name__)


@entry("train", "resume", "rerun")
def main(cfg: DictConfig) -> None:
    """Fit, test, and keep what came of it in the run's folder."""
    say_loading(f"run folder: {summary.shortest(cfg.run_dir)}")
    # Importing torch takes seconds: only now that the config is known to be good.
    from fovea import build
    from fovea.distributed import ranks
    from fovea.distributed.gather import gather
    from fovea.loggers import hyperparameters
    from fovea.models.weights import load_weights
    from fovea.runs import lock, provenance, rerun, run_folder
    from fovea.runs.checkpoint import last_good, to_start_from
    from fovea.training.out_of_memory import smaller_batch_proposed
    from fovea.training.stop_signals import StopSignals, ended_if_deaf

    folder, resumed = Path(cfg.run_dir), cfg.resume
    cfg.resume = None
    first = is_first()
    results = run_folder.Results(folder, cfg.monitor, writes=first)
    with (
        lock.alone_in(folder, first),
        ended_if_deaf(lambda: results.end(status="interrupted")),
        StopSignals(),
        results.status(),
        ranks.together(folder, results.end),
    ):
        checkpoint = last_good(folder) if resumed else cfg.ckpt_path and to_start_from(Path(cfg.ckpt_path))
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
                start = provenance.go_on(folder, start, cfg.forced, cfg.force)
                for line in resume_rules.other_schedule(cfg, folder):
                    log.warning("the schedule follows the run's new end: %s", line)
            elif cfg.rerun:
                rerun.say_beforehand(Path(cfg.rerun), start, resume_rules.other_values(cfg, Path(cfg.rerun)))
            saved.save(cfg, folder)
            provenance.add(folder, start)
        results.update()
        hyperparameters.log_start(trainer.loggers, task.config)
        with smaller_batch_proposed(cfg.data.batch_size, cfg.trainer.accumulate_grad_batches, trainer.world_size):
            trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        results.update(**run_folder.fitted(trainer, cfg.monitor))
        keeper = run_folder.keeper_of_best(trainer, cfg.monitor)
        best = Path(keeper.best_model_path) if keeper else folder / "checkpoints" / "best.ckpt"
        tested = str(best) if best.exists() else None
        trainer.test(task, datamodule=data, ckpt_path=tested, weights_only=True, verbose=False)
        unreadable = sorted(set(results.content.get("unreadable", [])).union(*gather(data.unreadable)))
        tested_on = "val" if data.splits["test"] is data.splits["val"] else "test"
        results.update(test=run_folder.figures(trainer, "test"), tested_on=tested_on, unreadable=unreadable)
        assert task.evaluation is not None
        measured: list[int] = gather(task.evaluation.of_network.measured)
        hyperparameters.log_end(trainer.loggers, task.config, results.content, trainer.global_step)
        if first:
            run_folder.write_per_class(folder / "per_class.csv", data.class_names, task.per_class)
            log.info(summary.tested(results.content, best if tested else None, sum(measured), tested_on, "test"))
            summary.say_figures("test", results.content["test"], data.class_names, task.per_class, cfg.monitor)
    if first:
        summary.say_next(summary.next_commands(folder, summary.longer(cfg.trainer.max_epochs, cfg.trainer.max_steps)))
    if first and OmegaConf.select(cfg, "rerun"):
        rerun.say_whether_identical(Path(cfg.rerun), folder)


if __name__ == "__main__":
    main()
