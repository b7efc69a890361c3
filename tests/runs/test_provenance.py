import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import SMALL

from fovea.runs import provenance
from fovea.runs.provenance import LARGEST, add, changes, git_state, starts

Invoke = Callable[..., tuple[int, str, str]]
Runs = Callable[[], list[Path]]
TRACKED = ("src/code.py", ".env", ".env.prod", "src/.envrc", ".env.example")


@pytest.fixture
def git(tmp_path: Path) -> Callable[..., str]:
    """A repository in `tmp_path` with TRACKED in it."""

    def run(*words: str) -> str:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        done = subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True, text=True)
        return done.stdout

    (tmp_path / "src").mkdir()
    for name in TRACKED:
        (tmp_path / name).write_text("before\n")
    run("init")
    run("add", "-f", ".")
    run("commit", "-m", "first")
    return run


def entry(**others: object) -> dict:
    return {"devices": 1, "git": None, "versions": {"torch": "2.1"}, "hardware": {"threads": 1}} | others


def test_there_is_an_entry_for_each_start(tmp_path: Path) -> None:
    assert starts(tmp_path) == []
    for seed in (0, 1):
        add(tmp_path, provenance.start(seed, {"images": "abc"}, 1))
    assert [start["seed"] for start in starts(tmp_path)] == [0, 1]


def test_the_commit_and_diff_are_recorded_without_env_files(git: Callable[..., str], tmp_path: Path) -> None:
    for name in TRACKED:
        (tmp_path / name).write_text(f"after in {name}\n")
    (tmp_path / "src" / ".env.new").write_text("after in .env.new\n")
    state = git_state(tmp_path)
    assert state is not None
    assert state["commit"] == git("rev-parse", "HEAD").strip()
    assert re.findall(r"^\+after in (.*)", state["diff"], re.MULTILINE) == ["src/code.py", ".env.example"]
    assert set(re.findall(r"\.env[.\w]*", state["diff"])) == {".env.example"}


def test_the_diff_restores_the_tree_with_new_files(git: Callable[..., str], tmp_path: Path) -> None:
    wanted = {"src/code.py": "after\n", "src/new/é.py": "new\n", "conf/model/mine.yaml": "depth: 3\n"}
    others = {
        "src/large.py": "x" * LARGEST + "\n",
        "src/ignored.py": "x\n",
        ".gitignore": "ignored.py\n",
        "a.txt": "x\n",
    }
    for name, text in (wanted | others).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    state = git_state(tmp_path)
    assert state is not None
    for name in others:
        assert f"b/{name}" not in state["diff"]
    git("checkout", "src/code.py")
    for folder in ("src/new", "conf"):
        shutil.rmtree(tmp_path / folder)
    (tmp_path / "the.diff").write_text(state["diff"])
    git("apply", "the.diff")
    assert {name: (tmp_path / name).read_text() for name in wanted} == wanted


def test_outside_of_a_repository_there_is_no_state(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None


def test_only_changes_are_listed() -> None:
    assert changes(entry(), entry()) == []
    (line,) = changes(entry(), entry(devices=2))
    assert line.startswith("devices 1 then, 2 now. Order and augmentation stay the same")
    (line,) = changes(entry(), entry(versions={"torch": "2.2"}, hardware={"threads": 4, "gpus": ["new key"]}))
    assert line.startswith("threads 1 then, 4 now, torch 2.1 then, 2.2 now.")
    code = {"commit": "a" * 40, "status": "", "diff": ""}
    assert (
        "commit aaaaaaaaaa then, bbbbbbbbbb now" in changes(entry(git=code), entry(git=code | {"commit": "b" * 40}))[0]
    )
    assert "uncommitted" in changes(entry(git=code), entry(git=code | {"diff": "+x"}))[0]


def test_a_secret_is_in_no_file_of_a_run(
    invoke: Invoke, runs: Runs, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_TOKEN", "hush-from-environment")
    monkeypatch.setattr(provenance, "PROJECT", tmp_path / "clone")
    source = tmp_path / "clone" / "src" / "new.py"
    source.parent.mkdir(parents=True)
    source.write_text("api_key = 'hush-in-code'\nsaid = 'hush-from-environment'\n")
    subprocess.run(["git", "init", source.parents[1]], check=True, capture_output=True)
    git = ["git", "-C", str(source.parents[1]), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "commit", "--allow-empty", "-m", "first"], check=True, capture_output=True)
    typed = [
        "+note.api_key=hush-typed",
        "+note.password=hush-typed-2",
        "+note.pin_secret=77777777",
        "+note.inner={access_token: hush-typed-3}",
        "+note.uri='https://me:hush-typed-4@example.org/x'",
        "+note.header='Bearer hush-from-environment'",
        "+note.again='x-${note.api_key}'",
    ]
    shutil.move(folder, tmp_path / "hush-from-environment")  # named by a warning, and by an error
    folder = tmp_path / "hush-from-environment"
    damaged = folder / "train" / "dog" / "3.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    data = ("data=folder", f"data.root={folder}", *SMALL, "data.batch_size=12")
    assert invoke("train", *data, *typed)[0] == 2
    code, _, err = invoke("train", *data, *typed, "data.on_error=skip")
    assert code == 0, err
    assert "+api_key = ***" in starts(runs()[1])[0]["git"]["diff"]
    assert "skipped, because it cannot be read" in (runs()[1] / "train.log").read_text()
    files = [file for run in runs() for file in run.rglob("*") if file.is_file()]
    assert len(files) > 10
    for file in files:
        assert b"hush" not in file.read_bytes(), file
        assert b"77777777" not in file.read_bytes() or file.suffix not in (".yaml", ".json", ".log"), file


@pytest.mark.slow
def test_a_secret_that_was_not_kept_is_asked_for_again(invoke: Invoke, trained: Path) -> None:
    with (trained / "config.yaml").open("a") as config:
        config.write("note: {api_key: '***'}\n")
    for key in ("resume", "rerun"):
        code, _, err = invoke("train", f"{key}={trained}")
        assert code == 2
        assert "note.api_key held a secret" in err
    assert invoke("evaluate", f"run={trained}")[0] == 0


def without_one_image(data: Path, place: Path) -> Path:
    other = Path(shutil.copytree(data, place))
    (other / "train" / "cat" / "1.png").unlink()
    return other


@pytest.mark.slow
def test_evaluate_warns_if_the_data_have_changed(
    invoke: Invoke, trained: Path, trained_once: tuple[Path, Path], tmp_path: Path
) -> None:
    _, out, _ = invoke("evaluate", f"run={trained}")
    assert "the data" not in out
    other = without_one_image(trained_once[1], tmp_path / "other")
    assert (
        "not the run's own data: the train images: 36 then, 35 now"
        in invoke("evaluate", f"run={trained}", f"data.root={other}")[1]
    )
    config = trained / "config.yaml"
    config.write_text(config.read_text().replace(str(trained_once[1]), str(other)))  # as if it had been there always
    assert (
        "the data differ from the run's: the train images: 36 then, 35 now" in invoke("evaluate", f"run={trained}")[1]
    )


def test_resuming_refuses_other_data(
    invoke: Invoke, trained: Path, trained_once: tuple[Path, Path], tmp_path: Path
) -> None:
    other = without_one_image(trained_once[1], tmp_path / "other")
    before = (trained / "results.json").read_text(), (trained / "provenance.json").read_text()
    code, _, err = invoke("train", f"resume={trained}", "trainer.max_epochs=2", f"data.root={other}")
    assert code == 2
    assert "the train images: 36 then, 35 now" in err
    assert "weights=" in err
    assert before == ((trained / "results.json").read_text(), (trained / "provenance.json").read_text())


@pytest.mark.slow
def test_resuming_takes_other_data_if_forced_and_the_same_data_from_elsewhere(
    invoke: Invoke, trained: Path, trained_once: tuple[Path, Path], tmp_path: Path
) -> None:
    other = without_one_image(trained_once[1], tmp_path / "other")
    resume = ("train", f"resume={trained}", "trainer.max_epochs=2")
    code, out, _ = invoke(*resume, f"data.root={other}", "force=true")
    assert code == 0
    assert "force=true: from here on the run differs from its beginning: data: the train images: 36 then, 35 now" in out
    assert starts(trained)[-1]["forced"] == ["data: the train images: 36 then, 35 now"]
    same = without_one_image(trained_once[1], tmp_path / "same")
    assert invoke(*resume, f"data.root={same}")[0] == 0
    assert starts(trained)[-1]["forced"] == []


def test_another_class_is_refused_even_if_forced(
    invoke: Invoke, trained: Path, trained_once: tuple[Path, Path], tmp_path: Path
) -> None:
    other = Path(shutil.copytree(trained_once[1], tmp_path / "other"))
    for split in ("train", "val", "test"):
        shutil.copytree(other / split / "cat", other / split / "zebra")
    code, _, err = invoke("train", f"resume={trained}", f"data.root={other}", "force=true")
    assert code == 2
    assert "zebra" in err
    assert "weights=" in err


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [4, 16])
def test_another_batch_size_is_refused_and_goes_on_within_the_epoch_if_forced(
    invoke: Invoke, runs: Runs, folder: Path, batch_size: int
) -> None:
    assert invoke("train", "data=folder", f"data.root={folder}", *SMALL, "trainer.max_steps=3")[0] == 0
    (run,) = runs()
    resume = ("train", f"resume={run}", "trainer.max_steps=-1", f"data.batch_size={batch_size}")
    code, _, err = invoke(*resume)
    assert code == 2
    assert f"data.batch_size: 8 then, {batch_size} now" in err
    code, out, err = invoke(*resume, "trainer.max_epochs=2", "force=true")
    assert code == 0, err
    assert f"data.batch_size: 8 then, {batch_size} now" in out
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    batches = 36 // batch_size  # it stopped after three of an epoch's, and goes on there or begins the epoch again
    assert state["global_step"] == 3 + (batches - 3 if batches > 3 else batches) + batches
    assert json.loads((run / "results.json").read_text())["epochs"] == 2


@pytest.mark.slow
def test_resuming_on_more_devices_works_and_logs_what_changes(
    program: Callable[..., subprocess.CompletedProcess[str]], trained: Path
) -> None:
    devices = ("trainer.accelerator=cpu", "trainer.devices=2", "trainer.max_epochs=2")
    done = program("train", f"resume={trained}", *devices)
    assert done.returncode == 0
    assert "devices 1 then, 2 now. Order and augmentation stay the same" in done.stdout
    assert json.loads((trained / "results.json").read_text())["steps"] == 8
    again = program("train", f"--rerun={trained}")
    assert again.returncode == 1  # one device's first epoch and two devices' second one: no command does that
    assert "metrics.csv" in again.stdout
    (run,) = (trained.parent / name for name in trained.parent.iterdir() if name != trained)
    again = program("train", f"--rerun={run}")
    assert again.returncode == 0, again.stdout
    assert f"identical to {run}" in again.stdout
