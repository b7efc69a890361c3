"""Errors in the command line and --cfg job, which need no torch."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import some

Invoke = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("override", "said"),
    some(
        [
            ("trainer.max_epochs=abc", "trainer.max_epochs=abc: input should be a valid integer"),
            ("trainer.max_epochs=3.5", "trainer.max_epochs=3.5: input should be a valid integer"),
            ("data.batch_size=-1", "data.batch_size=-1: input should be greater than 0"),
            ("data.image_size=abc", "data.image_size=abc: input should be a valid integer"),
            ("data.on_error=maybe", "data.on_error=maybe: input should be 'raise' or 'skip'"),
            ("seed=-1", "seed=-1: input should be greater than or equal to 0"),
            ("optimizer.lr=abc", "optimizer.lr=abc: input should be a valid number"),
            ("optimizer.lr=0", "optimizer.lr=0: input should be greater than 0"),
            ("scheduler.warmup=abc", "scheduler.warmup=abc: a number is expected (conf/ has 0.05)"),
            ("loss.label_smoothing=5", "loss.label_smoothing=5: input should be less than or equal to 1"),
            ("logger=null", "logger=null: a group takes a name or a list of names; to choose none: logger=[]"),
            (
                "trainer.detect_anomaly=maybe",
                "trainer.detect_anomaly=maybe: true or false is expected (conf/ has false)",
            ),
            (
                "model=nonexistent",
                "There are airbench, cifar_resnet, mobilenet_v2, se_resnet, se_resnet_small, se_resnext, timm, ",
            ),
            ("model=se_resnett", "Did you mean se_resnet"),
            ("model.dephts=50", "model.dephts: there is no such key. Did you mean model.depth?"),
            ("modle=se_resnet", "Did you mean mode"),
            ("optimizer=sparse_adam", "needs sparse gradients"),
            ("resume=/nope", "resume=/nope: no run folder"),
            ("weights=/nope", "weights=/nope: there is no such file"),
            ("ckpt_path=/nope", "ckpt_path=/nope: there is no such file"),
            ("monitor=val/acuracy", "monitor=val/acuracy is not logged: did you mean val/accuracy?"),
            (
                "data=imagenet",
                "IMAGENET_DIR is not set: put it into .env or the environment, or type data.root=<folder>",
            ),
            ("data=folder", "data.root=<folder>"),
            ("data.background=[", "no viable alternative"),
            ("nonsense", "nonsense: type key=value"),
            ("precision=16", "or trainer.precision?"),
            ("optimzer.lr=1", "Did you mean optimizer.lr"),
            ("callbacks=[default,nope]", "There are agc, checkpoints, default"),
        ]
    ),
)
def test_a_wrong_override_is_named_in_a_few_lines_and_makes_no_folder(
    invoke: Invoke, runs: Callable[[], list[Path]], override: str, said: str
) -> None:
    code, out, err = invoke("train", override)
    assert code == 2
    assert said in err
    assert len((out + err).splitlines()) <= 10
    assert "Traceback" not in err
    assert not runs()


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("evaluate", ["run=/nope"], "run=/nope: no run folder"),
        ("evaluate", [], "run=<run folder> is missing"),
        ("predict", ["run=/nope", "source=x"], "run=/nope: no run folder"),
    ],
)
def test_a_missing_run_folder_is_named_in_the_error(invoke: Invoke, name: str, arguments: list[str], said: str) -> None:
    code, _, err = invoke(name, *arguments)
    assert code == 2
    assert said in err


def test_cfg_job_shows_the_config_as_the_overrides_leave_it(invoke: Invoke) -> None:
    code, out, _ = invoke("train", "--cfg", "job", "optimizer.lr=0.25", "model=mobilenet_v2")
    assert code == 0
    assert "lr: 0.25" in out
    assert "MobileNetV2" in out


def test_a_configuration_error_appears_without_importing_torch(
    program: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = program("train", "trainer.max_epochs=abc", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 2
    assert "fovea.config.check" in done.stderr
    assert not re.search(r"\| +torch$", done.stderr, re.MULTILINE)


def test_hydra_full_error_shows_the_traceback(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ValueError, match="max_epochs"):
        invoke("train", "trainer.max_epochs=abc")
