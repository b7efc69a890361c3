"""A run of several processes fails as a whole: the first error is printed once, and no process is left."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from helpers import SMALL

from fovea.config.resolvers import PROJECT
from fovea.distributed import failure_report, ranks
from fovea.distributed.failure_report import is_consequence
from fovea.distributed.ranks import OtherRanks, check_world
from fovea.error_text import OtherRankError
from fovea.files import write_safely

FAULT = """
import multiprocessing, os, signal, threading, time
from lightning import Callback

class Fault(Callback):
    def __init__(self, rank, what):
        self.rank, self.what = rank, what
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        with open(os.environ["PIDS"], "a") as out:
            out.write(f"{trainer.global_rank} {os.getpid()}\\n")
        if trainer.global_step != 2:
            return
        if trainer.global_rank == self.rank:
            if self.what == "linger":  # on the way out, as in leaving a group with a collective pending
                threading.Thread(target=time.sleep, args=(300,)).start()
            if self.what in ("raise", "linger"):
                with open(os.environ["PIDS"] + ".loaders", "w") as out:
                    out.write(" ".join(str(child.pid) for child in multiprocessing.active_children()))
                raise ValueError("the third batch is spoilt")
            if self.what == "break":
                raise RuntimeError("a fault of the program")
            if self.what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.what == "wait":
                time.sleep(300)
        elif self.what in ("kill", "linger") and self.rank == 1 and os.environ.get("HANGS"):
            time.sleep(300)  # as in a collective that doesn't notice
"""

TRAIN = f"""
import sys
sys.path.insert(0, {str(PROJECT / "src")!r})
from fovea.config import allowed_targets
of_conf = allowed_targets.conf_targets
allowed_targets.conf_targets = lambda: of_conf() | {{"fault.Fault"}}
import importlib.util
spec = importlib.util.spec_from_file_location("program", {str(PROJECT / "src" / "train.py")!r})
program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(program)
program.main()
"""  # as if a yaml of conf/ named the callback; Lightning starts the other processes with argv[0], this file


class Started:
    """Two processes that train, one of them with a fault at the third batch."""

    def __init__(self, place: Path, folder: Path) -> None:
        self.place, self.folder, self.pids = place, folder, place / "pids.txt"
        (place / "fault.py").write_text(FAULT)
        (place / "train.py").write_text(TRAIN)
        own = {"RUNS_DIR": str(place / "runs"), "PYTHONPATH": str(place), "PIDS": str(self.pids)}
        self.environment = os.environ | own | {"IMAGENET_DIR": ""}

    def start(self, rank: int, what: str, *options: str, **environment: str) -> subprocess.Popen[str]:
        fault = (
            f"+callbacks.fault.{key}={value}" for key, value in {"rank": rank, "what": what}.items() if value != ""
        )
        words = ("data=folder", f"data.root={self.folder}", *SMALL, "trainer.accelerator=cpu", "trainer.devices=2")
        command = [sys.executable, str(self.place / "train.py"), *words, "+callbacks.fault._target_=fault.Fault"]
        return subprocess.Popen(
            [*command, *fault, "logger=csv", *options],
            env=self.environment | environment,
            cwd=self.place,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def ranks(self) -> dict[int, int]:
        """Rank -> process id, of those that have begun a batch."""
        lines = self.pids.read_text().splitlines() if self.pids.exists() else []
        return {int(line.split()[0]): int(line.split()[1]) for line in lines if len(line.split()) == 2}

    def begun(self, steps: int = 3) -> dict[int, int]:
        """The same, once both ranks have reached the third batch."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            if self.pids.exists() and len(self.pids.read_text().splitlines()) >= 2 * steps:
                return self.ranks()
            time.sleep(0.1)
        raise AssertionError("the training didn't begin")

    def results(self) -> dict:
        (file,) = (self.place / "runs").rglob("results.json")
        return json.loads(file.read_text())

    def all_gone(self, within: float) -> bool:
        end = time.monotonic() + within
        while time.monotonic() < end:
            if not any(is_alive(pid) for pid in self.ranks().values()):
                return True
            time.sleep(0.2)
        return False


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def started(tmp_path: Path, folder: Path) -> Iterator[Started]:
    started = Started(tmp_path, folder)
    yield started
    for pid in started.ranks().values():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_the_rank_that_fails_is_named_with_its_error_once(started: Started) -> None:
    process = started.start(1, "raise")
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 2, out
    assert out.count("the third batch is spoilt") == 1
    assert "rank 1 failed\nerror: the third batch is spoilt" in out
    for consequence in ("Traceback", "gloo", "Connection closed"):
        assert consequence not in out
    assert started.all_gone(5)
    assert started.results()["status"] == "failed"
    assert started.results()["error"] == "rank 1: ValueError: the third batch is spoilt"
    assert not list(started.place.rglob(".rank_*"))


@pytest.mark.slow
def test_a_failed_rank_and_its_workers_end_at_once(started: Started) -> None:
    process = started.start(1, "linger", "data.num_workers=2", HANGS="yes")
    started.begun()
    since = time.monotonic()
    out, _ = process.communicate(timeout=120)
    assert time.monotonic() - since < 60
    assert process.returncode == 2, out
    assert out.count("the third batch is spoilt") == 1
    assert started.results()["error"] == "rank 1: ValueError: the third batch is spoilt"
    loaders = [int(pid) for pid in Path(f"{started.pids}.loaders").read_text().split()]
    assert len(loaders) == 2
    assert not any(is_alive(pid) for pid in [*loaders, *started.ranks().values()])


@pytest.mark.slow
def test_a_failure_of_rank_0_ends_the_others_and_is_printed_once(started: Started) -> None:
    process = started.start(0, "break")
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert out.count("RuntimeError: a fault of the program") == 1
    assert out.count("Traceback") == 1
    assert started.all_gone(5)
    assert started.results()["error"] == "RuntimeError: a fault of the program"


@pytest.mark.slow
@pytest.mark.parametrize("hangs", ["", "yes"])
def test_a_killed_rank_is_reported_even_if_rank_0_hangs(started: Started, hangs: str) -> None:
    process = started.start(1, "kill", HANGS=hangs)
    started.begun()
    since = time.monotonic()
    out, _ = process.communicate(timeout=120)
    assert time.monotonic() - since < 60
    assert process.returncode == 1, out
    assert out.count("rank 1 was killed (signal 9; out of memory?)") == 1
    assert "Traceback" not in out
    assert started.all_gone(5)
    assert started.results()["status"] == "failed"
    assert started.results()["error"] == "rank 1 was killed (signal 9; out of memory?)"


@pytest.mark.slow
@pytest.mark.parametrize("what", ["kill", "wait"])
def test_no_rank_outlives_rank_0(started: Started, what: str) -> None:
    process = started.start(0 if what == "kill" else 1, what)
    pids = started.begun()
    if what == "wait":  # rank 1 does something long
        os.kill(pids[0], signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert started.all_gone(10)


@pytest.mark.slow
def test_a_second_ctrl_c_ends_all(started: Started) -> None:
    process = started.start(1, "wait")
    started.begun()
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.5)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, out
    assert started.all_gone(5)
    assert started.results()["status"] == "interrupted"


@pytest.mark.slow
def test_sigterm_to_rank_0_ends_a_whole_sweep(started: Started) -> None:
    process = started.start(5, "none", "-m", "seed=0,1", "trainer.max_epochs=200")
    started.begun()
    os.kill(process.pid, signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, out
    assert started.all_gone(5)
    assert started.results()["status"] == "interrupted"  # and there is one results.json: the second job never began
    assert "0 of 1 jobs that were begun are finished" in out


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_sweeps_next_job_trains_after_one_in_which_a_rank_failed(started: Started, rank: int) -> None:
    sweep = started.place / "sweep"
    words = ("-m", "+callbacks.fault.what=raise,none", f"hydra.sweep.dir={sweep}")
    process = started.start(rank, "", *words)
    out, _ = process.communicate(timeout=200)
    assert "1 of 2 jobs are finished" in out, out
    assert [json.loads((sweep / n / "results.json").read_text())["status"] for n in "01"] == ["failed", "finished"]
    assert out.count("error: the third batch is spoilt") == 1
    assert started.all_gone(5)


def torchrun(started: Started, *options: str) -> subprocess.CompletedProcess[str]:
    words = ("data=folder", f"data.root={started.folder}", *SMALL, "trainer.accelerator=cpu", "logger=csv", *options)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*command, str(started.place / "train.py"), *words],
        env=started.environment,
        cwd=started.place,
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.mark.slow
def test_processes_that_torchrun_starts_train_together_in_one_folder(started: Started) -> None:
    done = torchrun(started, "trainer.devices=2")
    assert done.returncode == 0, done.stderr
    assert started.results()["status"] == "finished"
    assert len(list((started.place / "runs" / "train").iterdir())) == 1


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_under_torchrun_is_printed_once_in_full(started: Started, rank: int) -> None:
    fault = (f"+callbacks.fault.{key}={value}" for key, value in {"rank": rank, "what": "raise"}.items())
    done = torchrun(started, "trainer.devices=2", "+callbacks.fault._target_=fault.Fault", *fault)
    assert done.returncode != 0
    assert done.stderr.count("error: the third batch is spoilt") == 1, done.stderr
    assert started.results()["error"].endswith("ValueError: the third batch is spoilt")
    assert started.all_gone(5)


@pytest.mark.slow
def test_started_processes_that_would_train_separately_are_refused(started: Started) -> None:
    done = torchrun(started, "trainer.devices=1")
    assert done.returncode != 0
    assert "2 processes were started (WORLD_SIZE), but only 1 would train together" in done.stderr


def test_more_processes_than_train_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_world(1)
    monkeypatch.setenv("WORLD_SIZE", "4")
    check_world(4)
    with pytest.raises(ValueError, match="trainer.devices"):
        check_world(2)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("[/pytorch/gloo/transport/tcp/pair.cc:1] Connection closed by peer [127.0.0.1]:1"), True),
        (torch.distributed.DistBackendError("remote process exited"), True),
        (RuntimeError("NCCL error: unhandled system error"), True),
        (RuntimeError("a fault of the program"), False),
        (ValueError("gloo"), False),
    ],
)
def test_errors_that_only_report_a_lost_process_are_recognised(error: Exception, expected: bool) -> None:
    assert is_consequence(error) == expected


def report(folder: Path, rank: int, when: float, consequence: bool, first: str | None = str(os.getpid())) -> Path:
    content = {"rank": rank, "time": when, "stopped": False, "code": 2, "line": f"E: {rank}", "text": f"error: {rank}"}
    file = folder / f".rank_{rank}.json"
    write_safely(file, json.dumps(content | {"consequence": consequence, "first": first}))  # atomic: a thread reads it
    return file


def test_the_first_report_that_is_a_cause_is_used(tmp_path: Path) -> None:
    others = OtherRanks(tmp_path, lambda *_: None)
    gone = RuntimeError("gloo: Connection closed by peer")
    report(tmp_path, 1, 1.0, True)
    report(tmp_path, 2, 3.0, False)
    report(tmp_path, 3, 2.0, False)
    (tmp_path / ".rank_4.json").write_text("[]")  # not a report
    (tmp_path / ".rank_5.json").write_text('{"ran')
    cause = others.cause_of(gone)
    assert isinstance(cause, OtherRankError)
    assert (cause.line, cause.code) == ("rank 3: E: 3", 2)
    assert others.cause_of(ValueError("my own")) is None
    others.end()
    assert not list(tmp_path.iterdir())


def test_reports_of_this_start_are_kept_and_older_ones_removed(tmp_path: Path) -> None:
    report(tmp_path, 1, 1.0, False, first=None)  # torchrun's, while rank 0 was still loading torch
    report(tmp_path, 2, 0.5, False, first="1")  # of an earlier start, whose rank 0 has ended
    old = report(tmp_path, 3, 0.1, False, first=None)
    os.utime(old, (1, 1))
    others = OtherRanks(tmp_path, lambda *_: None)
    assert not old.exists()
    cause = others.cause_of(RuntimeError("gloo: Connection closed by peer"))
    assert isinstance(cause, OtherRankError)
    assert cause.line == "rank 1: E: 1"
    assert cause.text == "rank 1 failed: E: 1"  # the rank has printed its full text itself


@pytest.mark.parametrize("consequence", [False, True])
def test_a_report_ends_rank_0_even_if_the_process_that_wrote_it_still_runs(
    consequence: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    codes: list[int] = []
    noted: list[dict[str, str]] = []
    monkeypatch.setattr(ranks, "HANG_TIMEOUT", 0.1)
    monkeypatch.setattr(os, "_exit", codes.append)
    lingers = subprocess.Popen(["sleep", "300"])
    OtherRanks(tmp_path, lambda **values: noted.append(values)).watch([lingers])
    try:
        report(tmp_path, 1, 1.0, consequence)
        assert lingers.wait(timeout=10) == -signal.SIGKILL
    finally:
        lingers.kill()
    end = time.monotonic() + 5
    while not codes and time.monotonic() < end:
        time.sleep(0.05)
    assert codes == [2]
    assert noted == [{"status": "failed", "error": "rank 1: E: 1"}]
    assert "rank 1 failed\nerror: 1" in capfd.readouterr().err


def test_a_rank_killed_by_a_stop_signal_before_it_had_a_handler_ends_a_waiting_rank_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    codes: list[int] = []
    noted: list[dict[str, str]] = []
    monkeypatch.setattr(ranks, "STOP_TIMEOUT", 0.1)
    monkeypatch.setattr(os, "_exit", codes.append)
    asked = subprocess.Popen(["sleep", "300"])
    asked.send_signal(signal.SIGTERM)  # SIGINT is ignored in tests that a shell runs in the background
    asked.wait()
    OtherRanks(tmp_path, lambda **values: noted.append(values)).watch([asked])
    end = time.monotonic() + 10
    while not codes and time.monotonic() < end:
        time.sleep(0.05)
    assert codes == [143]
    assert noted == [{"status": "interrupted"}]
    assert capfd.readouterr().err == ""


class Gone(BaseException):
    """Raised instead of ending the process."""


@pytest.mark.parametrize(
    ("error", "launched_by_rank_0", "printed"),
    [
        (ValueError("spoilt"), False, "rank 1 failed\nerror: spoilt\n(HYDRA_FULL_ERROR=1 shows the traceback)\n"),
        (RuntimeError("gloo: closed"), False, "rank 1 failed: RuntimeError: gloo: closed\n"),
        (SystemExit(143), False, ""),
        (ValueError("spoilt"), True, ""),
    ],
)
def test_a_rank_that_rank_0_did_not_start_prints_its_own_error(
    error: BaseException,
    launched_by_rank_0: bool,
    printed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def leave(code: int) -> None:
        raise Gone(code)

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(ranks.rank_zero_only, "rank", 1)
    monkeypatch.delenv("FOVEA_RANK_0", raising=False)
    if launched_by_rank_0:
        monkeypatch.setenv("FOVEA_RANK_0", str(os.getppid()))
    with pytest.raises(Gone), ranks.coordinated(tmp_path):
        raise error
    assert capfd.readouterr().err == printed
    left = json.loads((tmp_path / ".rank_1.json").read_text())
    assert left["consequence"] == isinstance(error, RuntimeError)
    assert [file.name for file in tmp_path.iterdir()] == [".rank_1.json"]


def test_a_rank_prints_its_own_error_if_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(file: Path, text: str) -> None:
        raise OSError(28, "No space left on device", str(file))

    def leave(code: int) -> None:
        raise Gone(code)

    monkeypatch.setattr(failure_report, "write_safely", full)
    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(ranks.rank_zero_only, "rank", 1)
    monkeypatch.setenv("FOVEA_RANK_0", str(os.getppid()))
    with pytest.raises(Gone) as gone, ranks.coordinated(tmp_path):
        raise ValueError("spoilt")
    assert gone.value.args == (2,)
    assert "error: spoilt" in capfd.readouterr().err
