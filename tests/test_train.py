"""The main job on small folders of images, through the command line."""

import csv
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers import SMALL, make_folder, some
from PIL import Image

Invoke = Callable[..., Any]
Runs = Callable[[], list[Path]]


def results(run: Path) -> dict:
    return json.loads((run / "results.json").read_text())


def image_of(path: str) -> tuple[str, str]:
    """The image's class folder and name."""
    return Path(path).parent.name, Path(path).name


def predictions_in(file: Path) -> dict[tuple[str, str], list[np.float32]]:
    rows = list(csv.DictReader(file.open()))
    return {image_of(row["path"]): [np.float32(row[f"p({name})"]) for name in ("cat", "dog", "owl")] for row in rows}


def test_a_run_folder_holds_what_is_promised(trained: Path) -> None:
    names = {path.relative_to(trained).as_posix() for path in trained.rglob("*")}
    assert names >= {
        *(
            "config.yaml",
            "resolved.yaml",
            "provenance.json",
            "results.json",
            "metrics.csv",
            "per_class.csv",
            "predictions.csv",
            "errors.csv",
            "train.log",
        ),
        *("checkpoints/best.ckpt", "checkpoints/last.ckpt", "tensorboard"),
    }
    content = results(trained)
    assert content["status"] == "finished"
    assert content["monitor"] == "val/accuracy"
    assert (content["epochs"], content["steps"]) == (1, 36 // 8)
    assert content["best"] | {"value": 0} == {"checkpoint": "checkpoints/best.ckpt", "epoch": 0, "step": 4, "value": 0}
    assert set(content["test"]) == {"loss", "accuracy", "f1"}  # no top5 of three classes
    rows = list(csv.DictReader((trained / "per_class.csv").open()))
    assert [(row["class"], row["images"]) for row in rows] == [("cat", "5"), ("dog", "5"), ("owl", "5")]
    start = json.loads((trained / "provenance.json").read_text())["starts"][0]
    assert start["seed"] == 0
    assert start["versions"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert (config["num_classes"], config["class_names"]) == (3, ["cat", "dog", "owl"])


def test_a_checkpoint_is_plain_data_with_clean_keys(trained: Path) -> None:
    state = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    assert state["config"]["model"]["num_classes"] == 3
    network = [key for key in state["state_dict"] if key.startswith("network.")]
    assert "network.conv1.weight" in network
    assert not [key for key in state["state_dict"] if "module." in key or "_orig_mod." in key]


def test_evaluate_and_predict_give_the_figures_that_training_reported(
    invoke: Invoke, trained: Path, folder: Path, tmp_path: Path
) -> None:
    reported = results(trained)["test"]
    assert invoke("evaluate", f"run={trained}")[0] == 0
    (evaluated,) = trained.glob("evaluate/*/results.json")
    assert json.loads(evaluated.read_text())["test"] == pytest.approx(reported, abs=1e-6)
    headings = re.findall("<h2>(.*)</h2>", evaluated.with_name("report.html").read_text("utf-8"))
    assert "Classes" in headings
    assert "Training" not in headings
    output = tmp_path / "out put.csv"
    code, out, _ = invoke("predict", f"run={trained}", f"source={folder}/test", f"output={output}")
    assert code == 0
    assert "predicted 15 images with best.ckpt" in out
    assert "\x1b" not in out  # it is no terminal
    rows = list(csv.DictReader(output.open()))
    assert len(rows) == 15
    right = sum(row["label"] == Path(row["path"]).parent.name for row in rows)
    assert right / 15 == pytest.approx(reported["accuracy"])
    assert predictions_in(trained / "predictions.csv") == predictions_in(evaluated.with_name("predictions.csv"))
    assert predictions_in(trained / "predictions.csv") == predictions_in(output)
    wrong = [row["path"] for row in csv.DictReader((trained / "errors.csv").open())]
    assert {image_of(path) for path in wrong} == {
        image_of(row["path"]) for row in rows if row["label"] != Path(row["path"]).parent.name
    }
    for row in rows:
        assert sum(float(row[f"p({name})"]) for name in ("cat", "dog", "owl")) == pytest.approx(1, abs=1e-5)
        assert row["label"] == max(("cat", "dog", "owl"), key=lambda name: float(row[f"p({name})"]))


def test_a_run_can_be_moved_and_evaluated_on_other_data(invoke: Invoke, trained: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.move(trained, moved)
    other = make_folder(tmp_path / "other", classes=("owl", "cat"), images=4)  # a class is missing: places by name
    code, _, err = invoke("evaluate", f"run={moved}", "data=folder", f"data.root={other}", "split=all")
    assert code == 0, err
    (evaluated,) = moved.glob("evaluate/*/results.json")
    assert json.loads(evaluated.read_text())["images"] == 8
    per_class = list(csv.DictReader((evaluated.parent / "per_class.csv").open()))
    assert [row["images"] for row in per_class] == ["4", "0", "4"]


def test_a_class_the_run_does_not_know_is_refused(invoke: Invoke, trained: Path, tmp_path: Path) -> None:
    other = make_folder(tmp_path / "other", classes=("cat", "zebra"))
    code, _, err = invoke("evaluate", f"run={trained}", "data=folder", f"data.root={other}")
    assert code == 2
    assert "zebra" in err


def test_a_value_can_refer_to_hydras_own(invoke: Invoke, runs: Runs, folder: Path) -> None:
    name = "task_name=${hydra:runtime.choices.model}"
    assert invoke("train", "data=folder", f"data.root={folder}", *SMALL, name, "debug=fast").code == 0
    assert [run.parent.name for run in runs()] == ["se_resnet_small"]


def test_resuming_goes_on_in_the_same_folder(invoke: Invoke, runs: Runs, trained: Path) -> None:
    code, out, _ = invoke("train", f"resume={trained}", "trainer.max_epochs=2")
    assert code == 0
    assert out.endswith((trained / "train.log").read_text().partition("run folder: ")[2].partition("run folder: ")[2])
    assert [line.split("  ")[0].split(" I ")[1] for line in out.splitlines() if "I epoch" in line] == [
        "epoch 2/2",
    ]
    assert out.rstrip().endswith(" trainer.max_epochs=4")
    assert runs() == [trained]
    assert results(trained)["epochs"] == 2
    assert results(trained)["steps"] == 8
    rows = list(csv.DictReader((trained / "metrics.csv").open()))
    assert [int(row["step"]) for row in rows if row["val/loss"]] == [3, 7]
    assert len(json.loads((trained / "provenance.json").read_text())["starts"]) == 2


@pytest.mark.slow
def test_a_run_stopped_within_an_epoch_and_resumed_equals_one_that_was_not(
    invoke: Invoke, runs: Runs, folder: Path
) -> None:
    data = ("data=folder", f"data.root={folder}", *SMALL, "trainer.max_epochs=2", "scheduler=constant")
    assert invoke("train", *data)[0] == 0
    (whole,) = runs()
    assert invoke("train", *data, "trainer.max_steps=2")[0] == 0
    (stopped,) = set(runs()) - {whole}
    assert results(stopped)["steps"] == 2
    assert invoke("train", f"resume={stopped}", "trainer.max_steps=-1")[0] == 0
    assert results(stopped)["steps"] == results(whole)["steps"] == 8
    first, second = (torch.load(r / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for r in (whole, stopped))
    for key in first:
        assert torch.equal(first[key], second[key]), key


@pytest.mark.slow
def test_the_same_command_gives_the_same_weights_whatever_the_worker_count(
    invoke: Invoke, runs: Runs, folder: Path
) -> None:
    for workers in (0, 2):
        assert invoke("train", "data=folder", f"data.root={folder}", *SMALL, f"data.num_workers={workers}")[0] == 0
    first, second = (torch.load(r / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for r in runs())
    for key in first:
        assert torch.equal(first[key], second[key]), key


@pytest.mark.slow
def test_a_sweep_gives_a_folder_for_each_job(invoke: Invoke, runs: Runs, folder: Path) -> None:
    data = ("data=folder", f"data.root={folder}", *SMALL)
    assert invoke("train", "-m", *data, "model=se_resnet_small,mobilenet_v2", "seed=0,1")[0] == 0
    assert len(runs()) == 4
    assert len({run.parent for run in runs()}) == 1
    seen = {
        (c["model"]["_target_"], c["seed"]) for r in runs() for c in [yaml.safe_load((r / "config.yaml").read_text())]
    }
    assert len(seen) == 4
    assert {results(run)["status"] for run in runs()} == {"finished"}


@pytest.mark.parametrize("debug", some(["fast", "overfit", "profile"]))
def test_a_debug_preset_runs(invoke: Invoke, runs: Runs, folder: Path, debug: str) -> None:
    limits = ["trainer.max_epochs=2"] if debug == "overfit" else []
    code, _, err = invoke("train", "data=folder", f"data.root={folder}", *SMALL, f"debug={debug}", *limits)
    assert code == 0, err
    (run,) = runs()
    assert bool(list(run.glob("*profile*"))) == (debug == "profile")
    assert (run / "checkpoints" / "last.ckpt").exists() == (debug != "fast")


@pytest.mark.slow
def test_multilabel_data_alone_trains_evaluates_and_predicts(
    invoke: Invoke, runs: Runs, folder: Path, tmp_path: Path
) -> None:
    with (tmp_path / "labels.csv").open("w") as out:
        out.write("path,split,dark,bright\n")
        for split in ("train", "val", "test"):
            for file in sorted((folder / split).rglob("*.png")):
                dark = 1 if file.parent.name == "cat" else -1 if file.name == "1.png" else 0
                out.write(f"{file.relative_to(tmp_path)},{split},{dark},{int(file.parent.name == 'owl')}\n")
    code, _, err = invoke("train", "data=multilabel_csv", f"data.root={tmp_path}", *SMALL)
    assert code == 0, err
    (run,) = runs()
    reported = results(run)["test"]
    assert set(reported) == {"loss", "mAP", "f1_micro", "f1_macro"}
    assert invoke("evaluate", f"run={run}")[0] == 0
    (evaluated,) = run.glob("evaluate/*/results.json")
    assert json.loads(evaluated.read_text())["test"] == pytest.approx(reported, abs=1e-6)
    assert invoke("predict", f"run={run}", f"source={folder}/test", "output=null", "threshold=0")[0] == 0
    (table,) = run.glob("predict/*/predictions.csv")
    assert {row["labels"] for row in csv.DictReader(table.open())} == {"dark;bright"}


def test_weights_of_an_earlier_run_are_taken_and_a_table_says_so(
    invoke: Invoke, runs: Runs, trained: Path, folder: Path, tmp_path: Path
) -> None:
    other = make_folder(tmp_path / "two", classes=("a", "b"))
    start = f"weights={trained}/checkpoints/best.ckpt"
    code, _, err = invoke("train", "data=folder", f"data.root={other}", *SMALL, start, "optimizer.lr=1e-12")
    assert code == 0, err
    (run,) = set(runs()) - {trained}
    first, second = (torch.load(r / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for r in (trained, run))
    torch.testing.assert_close(first["network.conv1.weight"], second["network.conv1.weight"])
    assert second["network.fc.weight"].shape[0] == 2
    assert "fc.weight" in (run / "train.log").read_text()


def test_an_unreadable_image_stops_training_with_its_name_or_is_skipped_and_listed(
    invoke: Invoke, runs: Runs, folder: Path
) -> None:
    damaged = folder / "train" / "dog" / "3.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    data = ("data=folder", f"data.root={folder}", *SMALL, "data.batch_size=12")
    code, _, err = invoke("train", *data)
    assert code == 2
    assert str(damaged) in err
    assert results(runs()[0])["status"] == "failed"
    assert str(damaged) in results(runs()[0])["error"]
    assert invoke("train", *data, "data.on_error=skip")[0] == 0
    assert results(runs()[1])["unreadable"] == [str(damaged)]
    assert not (runs()[1] / "report.html").exists()  # report=false
    assert not (runs()[1] / "calibration.json").exists()


def test_predict_lists_what_it_cannot_read(invoke: Invoke, trained: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    make_folder(source, images=2)
    (source / "broken.jpg").write_bytes(b"no image")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(source / "gray.png")
    for ending, read in ((".json", json.loads), (".parquet", None)):
        if ending == ".parquet":
            pytest.importorskip("pyarrow")
        output = tmp_path / f"p{ending}"
        assert invoke("predict", f"run={trained}", f"source={source}", f"output={output}", "top_k=2")[0] == 0
        if read:
            rows = read(output.read_text())
            assert len(rows) == 7
            assert {"label", "probability", "label_2", "probability_2"} <= set(rows[0])
        assert (tmp_path / "p.unreadable.txt").read_text() == f"{source}/broken.jpg\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["source={folder}", "output=x.xlsx"], ".csv .json .parquet"),
        (["source=/nope"], "source=/nope: there is no such file or folder"),
        ([], "source=<an image"),
    ],
)
def test_predict_refuses_what_it_cannot_do(
    invoke: Invoke, trained: Path, folder: Path, arguments: list[str], said: str
) -> None:
    code, _, err = invoke("predict", f"run={trained}", *(a.format(folder=folder) for a in arguments))
    assert code == 2
    assert said in err


@pytest.mark.parametrize(
    ("spoil", "overrides", "said"),
    some(
        [
            (lambda root: shutil.rmtree(root), [], "mes données"),
            (lambda root: [f.unlink() for f in root.rglob("*.png")], [], "no image"),
            (lambda root: make_folder(root / "val", ("zebra",)), [], "zebra"),
            (lambda root: None, ["data.batch_size=64"], "36 training images: lower it"),
            (lambda root: None, ["trainer.accelerator=gpu"], "gpu"),
            (lambda root: None, ["data.batch_size=9", "trainer.devices=2"], "make it a multiple, such as 8"),
            (lambda root: None, ["monitor=val/top5"], "val/top5 is not logged"),
            (lambda root: None, ["model.depth=19"], "depth=19"),
            (lambda root: None, ["loss=bce", "task_name=x/../y", "model.stem=big"], "big"),
        ]
    ),
)
def test_bad_data_or_a_bad_choice_is_named_in_a_few_lines(
    invoke: Invoke, folder: Path, spoil: Callable[[Path], object], overrides: list[str], said: str
) -> None:
    if "gpu" in said and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    spoil(folder)
    code, _, err = invoke("train", "data=folder", f"data.root={folder}", *SMALL, *overrides)
    assert code == 2, err
    assert said in err
    assert len([line for line in err.splitlines() if line]) <= 10
    assert "Traceback" not in err


def test_cross_entropy_on_several_labels_an_image_is_refused(invoke: Invoke, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(
        "path,a,b\n" + "".join(f"{file.relative_to(tmp_path)},1,0\n" for file in folder.rglob("*.png"))
    )
    code, _, err = invoke("train", "data=multilabel_csv", f"data.root={tmp_path}", *SMALL, "loss=cross_entropy")
    assert code == 2
    assert "use loss=bce" in err


def test_a_folder_that_cannot_be_written_is_named(
    invoke: Invoke, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNS_DIR", str(folder / "train" / "cat" / "0.png"))
    code, _, err = invoke("train", "data=folder", f"data.root={folder}", *SMALL)
    assert code == 2
    assert "0.png" in err
    assert "RUNS_DIR" in err


@pytest.mark.slow
def test_a_damaged_image_is_named_by_a_worker_too(invoke: Invoke, runs: Runs, folder: Path) -> None:
    damaged = folder / "train" / "dog" / "3.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    data = ("data=folder", f"data.root={folder}", *SMALL, "data.batch_size=12", "data.num_workers=2")
    code, _, err = invoke("train", *data)
    assert code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error:")]
    assert str(damaged) in line
    assert "Caught" not in err
    assert results(runs()[0])["error"].startswith(f"UnreadableImage: {damaged}: ")


@pytest.mark.slow
def test_a_job_is_not_deterministic_because_an_earlier_one_was(invoke: Invoke, trained: Path) -> None:
    torch.use_deterministic_algorithms(True)
    assert invoke("evaluate", f"run={trained}")[0] == 0
    assert not torch.are_deterministic_algorithms_enabled()


def learning_rates(run: Path) -> list[float]:
    column = "lr-SGD/pg1"
    return [float(row[column]) for row in csv.DictReader((run / "metrics.csv").open()) if row.get(column)]


@pytest.mark.parametrize(
    "scheduler",
    ["cosine", "one_cycle", "warmup_cosine", "step"],
)
@pytest.mark.slow
def test_a_prolonged_run_follows_the_longer_schedule(invoke: Invoke, runs: Runs, folder: Path, scheduler: str) -> None:
    data = ("data=folder", f"data.root={folder}", *SMALL, f"scheduler={scheduler}", "trainer.log_every_n_steps=1")
    assert invoke("train", *data)[0] == 0
    (run,) = runs()
    assert invoke("train", f"resume={run}", "trainer.max_epochs=3")[0] == 0
    config = yaml.safe_load((run / "resolved.yaml").read_text())
    state = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["lr_schedulers"][0]
    settings = set(state) & set(config["scheduler"])
    assert {key: state[key] for key in settings} == {key: config["scheduler"][key] for key in settings}
    if scheduler == "cosine":
        expected = [0.05 * (1 + math.cos(math.pi * epoch / 3)) for epoch in range(3)]  # logged once an epoch
        assert learning_rates(run) == pytest.approx(expected)
    if scheduler in ("one_cycle", "warmup_cosine"):
        assert learning_rates(run)[-1] < 0.01  # it has come down at the new end, not at the old one
        assert max(learning_rates(run)[4:]) > 0.03


@pytest.mark.parametrize(
    "override", some(["optimizer.lr=0.5", "optimizer=adam", "model.width=32", "seed=3", "debug=fast"])
)
def test_resuming_refuses_what_it_would_not_use(invoke: Invoke, trained: Path, override: str) -> None:
    before = (trained / "config.yaml").read_text()
    code, _, err = invoke("train", f"resume={trained}", override)
    assert code == 2
    assert override.partition("=")[0] in err
    assert (trained / "config.yaml").read_text() == before


@pytest.mark.slow
def test_another_trainer_keeps_the_rest_of_the_runs_own(invoke: Invoke, trained: Path) -> None:
    assert invoke("train", f"resume={trained}", "trainer=cpu", "trainer.max_epochs=2")[0] == 0
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert (config["trainer"]["accelerator"], config["trainer"]["max_epochs"]) == ("cpu", 2)
    assert invoke("train", f"resume={trained}", "trainer=cpu")[0] == 0
    assert results(trained)["epochs"] == 2


@pytest.mark.slow
def test_a_moved_run_keeps_its_best_score(invoke: Invoke, trained: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.move(trained, moved)
    state = torch.load(moved / "checkpoints/best.ckpt", weights_only=True)
    (key,) = [key for key in state["callbacks"] if key.startswith("SaveBest")]
    state["callbacks"][key]["best_model_score"] = torch.tensor(2.0)  # never to be reached
    torch.save(state, moved / "checkpoints/best.ckpt")
    before = (moved / "checkpoints/best.ckpt").read_bytes()
    assert invoke("train", f"resume={moved}", "trainer.max_epochs=2")[0] == 0
    assert (moved / "checkpoints/best.ckpt").read_bytes() == before
    assert results(moved)["best"]["value"] == 2.0


def test_data_of_another_kind_than_the_runs_is_refused(
    invoke: Invoke, trained: Path, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "labels.csv").write_text(
        "path,cat,dog\n" + "".join(f"{file.relative_to(tmp_path)},1,0\n" for file in folder.rglob("*.png"))
    )
    code, _, err = invoke("evaluate", f"run={trained}", "data=multilabel_csv", f"data.root={tmp_path}")
    assert code == 2
    assert "the run is multiclass and the data is multilabel" in err


LBFGS = ["trainer.precision=bf16-mixed", "optimizer=lbfgs", "optimizer.max_iter=2"]


@pytest.mark.parametrize(
    "overrides",
    some(
        [
            ["callbacks=[]", "logger=[]", "trainer.val_check_interval=0.5", "trainer.accumulate_grad_batches=3"],
            ["callbacks=[default,early_stopping]", "scheduler=plateau", "trainer.max_epochs=2"],
            ["trainer.limit_val_batches=0", "monitor=train/loss", "trainer.enable_progress_bar=false", *LBFGS],
        ]
    ),
    ids=" ".join,
)
def test_what_people_switch_on_and_off_runs(invoke: Invoke, folder: Path, overrides: list[str]) -> None:
    code, _, err = invoke("train", "data=folder", f"data.root={folder}", *SMALL, *overrides)
    assert code == 0, err
