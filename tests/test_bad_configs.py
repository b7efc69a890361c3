"""Wrong command lines and damaged or missing run folders give a few helpful lines and exit code 2."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import some

Invoke = Callable[..., tuple[int, str, str]]


def refused(outcome: tuple[int, str, str], said: str) -> None:
    code, out, err = outcome
    assert code == 2, out + err
    assert said in err
    assert "Traceback" not in out + err
    assert len([line for line in (out + err).splitlines() if line.strip()]) <= 10


TRAIN = {
    "data.batch_size=abc": "data.batch_size=abc",
    "data.batch_size=true": "data.batch_size=True",
    "data.batch_size=[8]": "data.batch_size",
    "data.num_workers=-1": "data.num_workers=-1",
    "data.background=[0,0,256]": "data.background.2=256",
    "data.decode=gpu": "data.decode=gpu",
    "seed=1e3": "seed=1000.0",
    "seed=4294967296": "seed=4294967296",
    "mode=most": "mode=most",
    "task_name=''": "task_name=",
    "trainer.devices=-2": "trainer.devices=-2",
    "trainer.limit_val_batches=1.5": "trainer.limit_val_batches=1.5",
    "trainer=7": "trainer=7: a group takes the name",
    "data.image_size=0": "data.image_size=0",
    "data.val_fraction=1": "data.val_fraction=1",
    "optimizer.lr=inf": "optimizer.lr=inf",
    "optimizer=sgd optimizer.momentum=1": "optimizer.momentum=1",
    "checkpoint.every_n_steps=0": "checkpoint.every_n_steps=0",
    "scheduler=": "scheduler",
    "augment=nothing": "There are",
    "logger=[csv,tensorbord]": "tensorboard",
    "model=../../etc/passwd": "model",
    "data.Batch_Size=8": "data.batch_size",
    "~nothing": "nothing",
    "+seed=3": "seed",
    "model.weights.x=1": "model.weights",
    "=": "=",
    "data.background='": "data.background",
    "data.root=${nowhere}": "nowhere",
    "data.root=${data.root}": "data.root",
    "seed=${oc.env:NOT_SET_AT_ALL}": "NOT_SET_AT_ALL",
    "data.root=???": "data.root is missing",
    "weights=README.md ckpt_path=README.md": "keep one of them",
    "data.resident=true data.decode=cuda": "data.resident=true",
    "monitor=accuracy": "val/accuracy",
    "monitor=train/accuracy trainer.val_check_interval=0.5": "monitor=train/accuracy",
    "resume=a rerun=b": "keep one of them",
    "sampler=weighted data.sampler.file=/nope": "there is no such file",
    "data.corrections=/nope": "data.corrections=/nope: there is no such file",
    "data.store=/nope data.root=x": "data.store=null",
    "resume=": "resume",
}
ALSO = {  # the same ways through the code
    "data.batch_size=1.5": "data.batch_size=1.5",
    "data.batch_size=null": "data.batch_size=None",
    "data.batch_size={a:1}": "data.batch_size",
    "data.num_workers=two": "data.num_workers=two",
    "data.background=white": "data.background=white",
    "data.background=[0,0]": "data.background",
    "data.resident=maybe": "data.resident=maybe",
    "seed=one": "seed=one",
    "seed=null": "seed=None",
    "trainer.accumulate_grad_batches=0": "trainer.accumulate_grad_batches=0",
    "trainer.gradient_clip_val=-1": "trainer.gradient_clip_val=-1",
    "data.val_fraction=-0.1": "data.val_fraction=-0.1",
    "data.val_fraction=.nan": "data.val_fraction",
    "optimizer.lr=-1": "optimizer.lr=-1",
    "optimizer.lr=nan": "optimizer.lr=nan",
    "optimizer.weight_decay=-1e-4": "optimizer.weight_decay=-0.0001",
    "checkpoint.every_n_minutes=-1": "checkpoint.every_n_minutes=-1",
    "data=imagnet": "Did you mean imagenet",
    "optimizer=adamm": "Did you mean adam",
    "experiment=nope": "experiment=nope",
    "data.batchsize=8": "data.batch_size",
    "trainer.max_epoch=3": "trainer.max_epochs",
    "monitor=val/ema_accuracy callbacks=[default]": "callbacks=[default,ema]",
    "callbacks.best.montor=x": "callbacks.best.monitor",
    "lr=0.1": "optimizer.lr",
    "=3": "=3",
    "a=b=c=": "a",
    "data.root=${nothing:1}": "nothing",
    "optimizer.lr=${optimizer}": "optimizer.lr",
    "+callbacks.ema.decay=0.9": "type callbacks=[<others>,ema]",
    "+logger.mine.name=x": "logger.mine has no _target_",
    "ckpt_path=.": "there is no such file",
    "resume=README.md": "no run folder",
    "rerun=/nope": "no run folder",
}


@pytest.mark.parametrize("overrides", some([*TRAIN, *ALSO]))
def test_a_wrong_command_line_is_answered_with_the_word_that_helps(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, runs: Callable[[], list[Path]], overrides: str
) -> None:
    monkeypatch.chdir(Path(__file__).parents[1])
    refused(invoke("train", *overrides.split()), (TRAIN | ALSO)[overrides])
    assert not runs()


@pytest.mark.slow
def test_a_number_is_the_name_of_a_store(invoke: Invoke) -> None:
    refused(invoke("train", "data.store=7"), "7: there is no such folder")


LATE = {
    "model._target_=nowhere.Network": "nowhere",
    "model._target_=fovea.models.se_resnet.NoNetwork": "NoNetwork",
    "+model.colour=red": "colour",
    "+optimizer.colour=red": "~optimizer.colour",
    "optimizer._target_=torch.optim.Nope": "spelt right",
    "model._target_=7": "model",
    "model=torchvision model.name=resnet19": "resnet18",
    "model=torchvision model.weights=BEST": "IMAGENET1K_V1",
    "trainer.strategy=fast": "fast",
    "trainer.precision=7": "precision",
}


@pytest.mark.parametrize("overrides", some(LATE))
def test_what_is_known_once_the_parts_are_built_is_said_in_a_few_lines_too(
    invoke: Invoke, folder: Path, overrides: str
) -> None:
    data = ("data=folder", f"data.root={folder}", "data.num_workers=0", "data.batch_size=8", "data.image_size=16")
    refused(invoke("train", *data, *overrides.split()), LATE[overrides])


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "no run folder"),
    "a file": (lambda run: (shutil.rmtree(run), run.write_text("x")), "no run folder"),
    "no config": (lambda run: (run / "config.yaml").unlink(), "no run folder"),
    "a config that is a folder": (
        lambda run: ((run / "config.yaml").unlink(), (run / "config.yaml").mkdir()),
        "no run",
    ),
    "an empty config": (lambda run: (run / "config.yaml").write_text(""), "holds NoneType"),
    "a list": (lambda run: (run / "config.yaml").write_text("- 1\n- 2\n"), "holds list"),
    "a word": (lambda run: (run / "config.yaml").write_text("hello"), "holds str"),
    "bytes": (lambda run: (run / "config.yaml").write_bytes(b"\xff\xfe\0\0"), "can't be read"),
    "bad yaml": (lambda run: (run / "config.yaml").write_text("a: [1\nb: {"), "can't be read"),
    "tabs": (lambda run: (run / "config.yaml").write_text("a:\n\tb: 1\n"), "can't be read"),
    "another yaml": (lambda run: (run / "config.yaml").write_text("name: x\non: push\n"), "no section model"),
    "cut short": (lambda run: cut(run / "config.yaml", 0.5), "config.yaml"),
    "cut shorter": (lambda run: cut(run / "config.yaml", 0.02), "config.yaml"),
    "no checkpoint": (lambda run: shutil.rmtree(run / "checkpoints"), "no checkpoint yet"),
    "a checkpoint that is a folder": (lambda run: turn_into_folders(run / "checkpoints"), "no checkpoint yet"),
    "data that are gone": (lambda run: replace(run, "root: ", "root: /nope # "), "/nope"),
    "a section that is a word": (
        lambda run: replace(run, "trainer:", "trainer: 7\nold:"),
        "no section trainer",
    ),
    "a wrong type": (lambda run: replace(run, "batch_size: 8", "batch_size: many"), "data.batch_size=many"),
    "a date": (lambda run: replace(run, "task_name: train", "task_name: 2026-11-22"), "config.yaml"),
    "a reference to nowhere": (lambda run: replace(run, "seed: 0", "seed: ${nowhere}"), "nowhere"),
    "a reference in a circle": (lambda run: replace(run, "seed: 0", "seed: ${seed}"), "seed"),
    "a reference that is none": (lambda run: replace(run, "seed: 0", "seed: ${{"), "can't be read as a run's config"),
    "a value that is missing": (lambda run: replace(run, "seed: 0", "seed: ???"), "seed is missing"),
}


def cut(file: Path, part: float) -> None:
    text = file.read_text()
    file.write_text(text[: int(len(text) * part)])


def turn_into_folders(checkpoints: Path) -> None:
    for file in list(checkpoints.iterdir()):
        file.unlink()
        file.mkdir()


def replace(run: Path, old: str, new: str) -> None:
    text = (run / "config.yaml").read_text()
    assert old in text
    (run / "config.yaml").write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("kind", some(SPOILED))
def test_a_run_folder_that_is_none_or_damaged_is_named(invoke: Invoke, trained: Path, kind: str) -> None:
    spoil, said = SPOILED[kind]
    spoil(trained)
    refused(invoke("evaluate", f"run={trained}"), said)


@pytest.mark.parametrize(
    ("content", "said"), [("", "results.json"), ("[]", "results.json"), ('{"seconds": "long"}', "results.json")]
)
def test_a_damaged_results_json_is_named(invoke: Invoke, trained: Path, content: str, said: str) -> None:
    (trained / "results.json").write_text(content)
    refused(invoke("train", f"resume={trained}", "trainer.max_epochs=2"), said)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("evaluate", ["split=tests"], "split=tests"),
        ("evaluate", ["model=mobilenet_v2"], "model= can't be chosen for a trained run"),
        ("evaluate", ["ckpt_path=/nope"], "there is no such file"),
        ("evaluate", ["modle.depth=3"], "modle.depth"),
        ("evaluate", ["data=nope"], "There are"),
        ("predict", ["source=x", "top_k=0"], "top_k=0"),
        ("predict", ["source=x", "threshold=2"], "threshold=2"),
        ("predict", ["source=/nope"], "no such file or folder"),
        ("predict", ["source="], "source="),
    ],
)
def test_what_a_run_is_asked_for_wrongly_is_named(
    invoke: Invoke, trained: Path, name: str, arguments: list[str], said: str
) -> None:
    refused(invoke(name, f"run={trained}", *arguments), said)
    assert json.loads((trained / "results.json").read_text())["status"] == "finished"
