"""`--help` shows each key with its comment in conf/, wrapped to the terminal's width."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conf_groups import GROUPS, composed

from fovea.cli.yaml_comments import described, descriptions, head
from fovea.config import saved
from fovea.config.resolvers import CONF

Invoke = Callable[..., tuple[int, str, str]]
PROGRAMS = (
    "train",
    "evaluate",
    "predict",
    "../scripts/pack",
    "../scripts/browse",
    "../scripts/verify",
    "../scripts/plot_schedule",
    "../scripts/find_lr",
    "../scripts/find_batch_size",
)
TRAINER: tuple[str, ...] = (
    "accelerator",
    "devices",
    "strategy",
    "num_nodes",
    "precision",
    "max_epochs",
    "max_steps",
    "max_time",
)
TRAINER += ("accumulate_grad_batches", "gradient_clip_val", "limit_train_batches", "limit_val_batches", "deterministic")
TRAINER += (
    "max_time",
    "val_check_interval",
    "check_val_every_n_epoch",
    "log_every_n_steps",
    "fast_dev_run",
    "overfit_batches",
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with a run's config.yaml."""
    saved.save(composed("data.batch_size=24"), tmp_path)
    return tmp_path


def rows(text: str) -> dict[str, tuple[str | None, str]]:
    """Key or group -> (value, description), of lines that are indented by two columns and those below them."""
    joined = re.sub(r"\n {8,}", "  ", text)
    found = re.findall(r"(?m)^  (?!python)([\w.]+)(?:=(\S*))?(?: +(.*))?$", joined)
    return {key: (value, " ".join(words.split())) for key, value, words in found}


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_root_key_and_the_keys_that_people_type_are_described(invoke: Invoke, name: str) -> None:
    code, out, _ = invoke(name, "--help")
    assert code == 0
    shown = rows(out)
    typed = [key for key in shown if key not in GROUPS and key.partition(".")[0] in ("data", "checkpoint", key)]
    typed += [f"trainer.{key}" for key in TRAINER] if name == "train" else []
    assert len(typed) > 5
    assert [key for key in typed if not shown[key][1]] == []


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("name", PROGRAMS)
def test_no_line_is_longer_than_the_terminal(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, name: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    body = invoke(name, "--help")[1].partition("Groups and")[2]
    assert max(map(len, body.splitlines())) <= columns


def test_help_of_train_has_every_group_and_key_with_the_values_that_overrides_leave(invoke: Invoke) -> None:
    words = ("model=mobilenet_v2", "optimizer.lr=0.25", "data.background=[0,0,0]")
    shown = rows(invoke("train", "--help", *words)[1])
    groups = {group: shown[group][1].split(", ") for group in GROUPS}
    assert groups == GROUPS
    assert shown["model"][0] == "mobilenet_v2"
    assert shown["optimizer.lr"][0] == "0.25"
    assert shown["data.background"] == ("[0,0,0]", "color behind transparent pixels")
    assert shown["preprocess.mean"][0] == "[0.485,0.456,0.406]"
    assert shown["model.stem"][0] == "small"  # computed from the image size
    leaves = set(composed(*words).trainer) - {"_target_", "default_root_dir"}
    assert {f"trainer.{key}" for key in leaves} <= set(shown)
    assert "loss.class_names" not in shown  # it only refers to the root key


@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize("name", ["evaluate", "predict"])
def test_help_about_a_saved_run_shows_the_programs_own_keys_alone(
    invoke: Invoke, run: Path, name: str, typed: bool
) -> None:
    code, out, _ = invoke(name, "--help", *[f"run={run}"] * typed)
    assert code == 0
    shown = rows(out)
    own = {
        "evaluate": {"split", "logit_adjustment", "report", "baseline", "tta"},
        "predict": {
            "source",
            "output",
            "top_k",
            "threshold",
            "calibrated",
            "logit_adjustment",
            "reject",
            "probabilities",
            "tta",
        },
    }[name]
    roots = {key for key in shown if "." not in key and key not in GROUPS}
    assert roots == {"run", "ckpt_path", "output_dir", *own}
    assert {key.partition(".")[0] for key in shown if "." in key} == {"data", "hydra"}
    assert shown["data.batch_size"][0] == ("24" if typed else "")
    assert shown["run"][0] == (str(run) if typed else "null")


def test_help_of_a_resumed_run_shows_what_resume_takes(invoke: Invoke, run: Path) -> None:
    shown = rows(invoke("train", "--help", f"resume={run}")[1])
    assert set(shown) == {"resume", "force", "hydra.run.dir"}


def test_no_secret_of_the_environment_is_shown(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:hidden-word@host")
    monkeypatch.setenv("MY_TOKEN", "hidden_word")
    words = ("logger=[csv,mlflow]", "+my.word=${oc.env:MY_TOKEN}", "task_name=hidden_word")
    out = invoke("train", "--help", *words)[1].partition("Groups and")[2]  # the command itself is printed before
    assert "task_name=***" in out
    assert not re.search("hidden.word", out)


def test_a_keys_description_is_its_comment_with_the_lines_that_begin_below_it() -> None:
    text = """# @package _global_
# What it is
# for.
a: 1  # one
b: 2
# no description
c:  # a section
  d: [1, 2]   # two
              # and more
  # no description
  e: {f: 3}
  g:
    h: ${i}  # deep
  j: - 4
"""
    assert head(text).splitlines()[1:] == ["What it is", "for."]
    assert descriptions(text) == {"a": "one", "c": "a section", "c.d": "two and more", "c.g.h": "deep"}


def test_descriptions_are_found_in_the_yamls_that_a_yaml_builds_upon() -> None:
    crop = described(CONF / "augment" / "standard.yaml", "augment")
    assert crop["augment.eval.crop.resize"].startswith("eval_image_size / 0.875")
    assert described(CONF / "augment" / "shift.yaml", "augment")["augment.eval.crop.resize"].startswith(
        "the short side"
    )
    assert described(CONF / "trainer" / "cpu.yaml", "trainer")["trainer.devices"]
    assert described(CONF / "sampler" / "weighted.yaml", "sampler")["data.sampler.power"]
