from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conf_groups import composed
from helpers import some
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from fovea.cli.command import job_resume_command, read_command
from fovea.config import resume_rules, saved
from fovea.config.keys import FIXED, KEYS, dotted, names
from fovea.config.resolvers import register_resolvers

Invoke = Callable[..., tuple[int, str, str]]


def typed_to_resume(run: Path, *words: str) -> list[str]:
    """The value of `forced` for these overrides; the run's folder is only read."""
    register_resolvers()
    command = read_command("train", ("resume",), [f"resume='{run}'", *words])
    assert command.source
    return list(ConfigStore.instance().load("run_config.yaml").node.forced)


@pytest.mark.parametrize(
    ("override", "said"),
    some(
        [
            ("data.image_size=24", "data.image_size: 16 then, 24 now"),
            ("data.batch_size=4", "force=true changes it from here on"),
            ("loss.label_smoothing=0.2", "loss.label_smoothing: 0.0 then, 0.2 now"),
            ("augment=none", "augment"),
            ("trainer.accumulate_grad_batches=2", "trainer.accumulate_grad_batches: 1 then, 2 now"),
            ("seed=3", "seed: 0 then, 3 now"),
            ("~optimizer.momentum", "optimizer.momentum can't be changed by resume="),
            ("model.width=99", "weights="),
            ("sampler=class_balanced", "sampler= can't be chosen for a trained run"),
        ]
    ),
)
def test_resume_refuses_changes_that_would_change_the_training(
    invoke: Invoke, trained: Path, override: str, said: str
) -> None:
    code, _, err = invoke("train", f"resume={trained}", override)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) <= 8


CHANGES = [  # decided one by one: each changes weights or figures that the run would have had
    *("trainer.gradient_clip_val=1", "trainer.gradient_clip_algorithm=value", "trainer.deterministic=true"),
    *("trainer.benchmark=true", "trainer.sync_batchnorm=true", "trainer.limit_train_batches=2", "trainer.precision=64"),
    *("trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "trainer.val_check_interval=2"),
    *("trainer.check_val_every_n_epoch=2", "trainer.reload_dataloaders_every_n_epochs=1", "trainer.fast_dev_run=true"),
    *("trainer.overfit_batches=1", "trainer.enable_checkpointing=false", "trainer.inference_mode=false"),
    *("data.decode=cuda", "data.resident=true", "data.background=[0,0,0]", "data.sampler.samples=5", "monitor=val/f1"),
    *("callbacks=[default,ema]", "metrics.top5.k=2", "mode=min"),
    *("+callbacks.x._target_=lightning.pytorch.callbacks.StochasticWeightAveraging", "+metrics.x={_target_: a.B}"),
    *("preprocess.mean=[0,0,0]", "+my_key=3", "+trainer.my_key=3", "+my_section={a: {b: 1}}", "++data.my_key=null"),
]
FREE = [
    *("trainer.max_epochs=100", "trainer.max_steps=3", "trainer.max_time='00:01:00:00'", "trainer.min_epochs=2"),
    *("trainer.devices=2", "trainer.accelerator=cpu", "trainer.strategy=ddp", "trainer.num_nodes=2", "trainer=cpu"),
    *("data.num_workers=3", "data.on_error=skip", "data.root=/elsewhere", "data.store=/x", "data.store_cache=/y"),
    *("data.read.cache=null", "data=folder", "data.val_fraction=0.5", "on_nan=skip", "logger=csv"),
    "data.corrections=/x.csv",
    *(
        "checkpoint.every_n_steps=3",
        "callbacks.best.folder=/x",
        "callbacks=[default,early_stopping]",
        "task_name=other",
    ),
    *("trainer.log_every_n_steps=1", "trainer.profiler=simple", "trainer.detect_anomaly=true", "hydra.verbose=true"),
    *("+logger.x={_target_: lightning.pytorch.loggers.CSVLogger, save_dir: x}", "trainer.enable_progress_bar=false"),
]


def test_keys_that_are_not_free_change_with_force_only(trained_once: tuple[Path, Path]) -> None:
    run = trained_once[0]
    texts = typed_to_resume(run, *CHANGES, "force=true")
    for override in CHANGES:
        place = override.lstrip("+").partition("=")[0]
        assert any(text.startswith(place) and " then, " in text for text in texts), override
    for override in (CHANGES[0], "~callbacks.finite_loss", "callbacks=[checkpoints]", "+my_key=3"):
        with pytest.raises(ValueError, match=r"^resume= would change .*\n(.*\n)+force=true changes it"):
            typed_to_resume(run, override)


def test_keys_that_change_no_weights_or_figures_need_no_force(trained_once: tuple[Path, Path]) -> None:
    assert typed_to_resume(trained_once[0], *FREE) == []
    assert typed_to_resume(trained_once[0], "logger=[]") == []


def test_a_value_that_refers_to_a_free_one_is_not_free(trained: Path) -> None:
    file = trained / "config.yaml"
    content = yaml.safe_load(file.read_text())
    content["loss"]["label_smoothing"] = "${trainer.max_epochs}"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=r"\nloss\.label_smoothing: 1 then, 2 now\n"):
        typed_to_resume(trained, "trainer.max_epochs=2")


def test_a_typed_secret_is_in_no_message_and_not_in_forced(trained_once: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match=r"my_api_token: not set then, \*\*\* now"):
        typed_to_resume(trained_once[0], "+my_api_token=geheimnis")
    assert "geheimnis" not in str(typed_to_resume(trained_once[0], "+my_api_token=geheimnis", "force=true"))


def test_whatever_resuming_may_change_is_a_key_that_a_run_has(trained_once: tuple[Path, Path]) -> None:
    config = yaml.safe_load((trained_once[0] / "config.yaml").read_text())
    known = {place for key, _ in dotted(config) for place in prefixes(key)}
    assert {key for key in names("resume") if KEYS[key].resume != FIXED} - known == {"callbacks.early_stopping"}


def prefixes(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)]


@pytest.mark.parametrize("override", ["optimizer.lr=0.5", "model.width=32"])
def test_fixed_keys_can_not_be_forced(invoke: Invoke, trained: Path, override: str) -> None:
    code, _, err = invoke("train", f"resume={trained}", override, "force=true")
    assert code == 2
    assert "can't be changed by resume=" in err


def own_values(run: Path, data: Path) -> list[str]:
    """Overrides with which a run's config stays as it is."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    groups = ["data=folder", "model=se_resnet_small", "optimizer=sgd", "scheduler=warmup_cosine", "sampler=shuffled"]
    values = ["seed=0", "data.image_size=16", "data.batch_size=8", f"optimizer.lr={config['optimizer']['lr']}"]
    return [*groups, f"data.root='{data}'", *values]


def test_typing_the_runs_own_value_is_not_a_change(trained_once: tuple[Path, Path]) -> None:
    assert typed_to_resume(trained_once[0], *own_values(*trained_once), "trainer.max_epochs=2") == []


@pytest.mark.slow
def test_a_change_of_the_runs_length_that_changes_the_schedule_is_logged(
    invoke: Invoke, trained: Path, trained_once: tuple[Path, Path]
) -> None:
    own = own_values(*trained_once)
    code, out, err = invoke("train", f"resume={trained}", *own, "trainer.max_epochs=2")
    assert code == 0, err
    assert "force" not in out
    steps = yaml.safe_load((trained_once[0] / "resolved.yaml").read_text())["total_steps"]
    assert f"the schedule changes with the run's length: scheduler.total_steps: {steps} then, {2 * steps} now" in out


def test_force_exists_for_resume_only(invoke: Invoke) -> None:
    code, _, err = invoke("train", "force=true")
    assert code == 2
    assert "force: there is no such key" in err


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder whose config has the place and the division of its data."""
    register_resolvers()
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data", target_is_directory=True)
    read = {"_target_": "fovea.data.sources.folder.read_folder", "_partial_": True, "cache": None}
    data = {"root": str(tmp_path / "data"), "store": None, "read": read, "image_size": 16}
    data |= {"val_fraction": 0.2, "test_fraction": 0.3, "split_seed": 7, "corrections": "/x.csv", "limit_per_class": 5}
    sections: dict[str, object] = {section: {} for section in names("parts")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(sections | {"data": data}))
    return tmp_path


def divided(run: Path, *words: str, **data: object) -> tuple[float, float, int, str | None]:
    """The division and the corrections if `data` replaces the run's own and `words` were typed."""
    cfg = DictConfig(saved.load("", run))
    cfg.data.update(data)
    resume_rules.divide_as_trained(cfg, run, words)
    return cfg.data.val_fraction, cfg.data.test_fraction, cfg.data.split_seed, cfg.data.corrections


def test_a_runs_own_data_are_divided_and_corrected_as_trained_by_whatever_way_they_are_named(run: Path) -> None:
    own = (0.2, 0.3, 7, "/x.csv")
    assert divided(run) == own
    again = {"val_fraction": 0.1, "test_fraction": 0.0, "split_seed": 0, "corrections": None}  # as data=folder has them
    assert divided(run, "data=folder", root=str(run / "link"), image_size=32, **again) == own
    read = {"_target_": "fovea.data.sources.folder.read_folder", "_partial_": True, "cache": "/other", "layout": "auto"}
    assert divided(run, read=read, **again) == own
    assert divided(run, "data.corrections=/y.csv", corrections="/y.csv") == (0.2, 0.3, 7, "/y.csv")


def test_other_data_are_divided_and_corrected_only_where_it_is_typed(run: Path) -> None:
    assert divided(run, root="/elsewhere") == (0.0, 0.0, 0, None)
    assert divided(run, store="/packed") == (0.0, 0.0, 0, None)
    typed = ("data.test_fraction=0.5", "data.split_seed=2", "data.corrections=/y.csv")
    values = {"test_fraction": 0.5, "split_seed": 2, "corrections": "/y.csv"}
    assert divided(run, *typed, root="/elsewhere", **values) == (0.0, 0.5, 2, "/y.csv")


def test_a_limit_that_may_be_null_is_null_for_other_data(run: Path) -> None:
    cfg = DictConfig(saved.load("", run))
    resume_rules.divide_as_trained(cfg, run, [])
    assert cfg.data.limit_per_class == 5
    cfg.data.root = "/elsewhere"
    resume_rules.divide_as_trained(cfg, run, [])
    assert cfg.data.limit_per_class is None


def test_resuming_a_sweeps_job_types_its_added_places_again(trained: Path) -> None:
    words = job_resume_command(trained, ["seed=0", "+callbacks.best.dirpath=/a", "callbacks.best.folder=/b"]).words
    assert words[1:] == ["++callbacks.best.dirpath=/a", "callbacks.best.folder=/b"]


def test_a_change_of_the_runs_length_is_named_for_the_schedule_and_for_deferred_weights(tmp_path: Path) -> None:
    cfg = composed("imbalance=ldam_drw", "data.root=x").copy()
    saved.save(cfg, tmp_path)
    cfg.total_steps, cfg.schedule_length = 140, 20
    lines = resume_rules.changed_schedule(cfg, tmp_path)
    assert "callbacks.deferred_weights.from_step: 56 then, 112 now" in lines
    assert any(line.startswith("scheduler.") for line in lines)
    assert not any(line.startswith("callbacks.best") for line in lines)
