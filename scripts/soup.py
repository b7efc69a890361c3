"""Average the weights of runs: `python scripts/soup.py <folder> [<folder> ...] [--best 3] [--uniform]`.

Candidates are the best checkpoints of runs of the same network on the same data, the best first. Each is added to the
average if the validation does not get worse (a greedy soup, Wortsman et al. 2022, https://arxiv.org/abs/2203.05482).
The test split is not used.

The new folder is used like a run's: run=<folder> with evaluate.py and predict.py. soup.safetensors in it has the
weights alone, for weights=<file>, and soup.json how they were made.
"""

import argparse
import math
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fovea.cli.entry import prepared  # isort: skip  # first, because it reports missing dependencies
import hydra
from omegaconf import DictConfig

from fovea.cli.command import read_command
from fovea.cli.named_run import LAST, last_run
from fovea.cli.paths import quoted, with_value
from fovea.config import resume_rules
from fovea.config.check import check
from fovea.config.defaults import own_hydra
from fovea.config.resolvers import PROJECT, stamp
from fovea.leaderboard.entries import find
from fovea.runs.checkpoint_names import TO_EVALUATE, existing
from fovea.runs.summary import short_path

if TYPE_CHECKING:
    from fovea.soup.candidates import Candidate
    from fovea.soup.greedy import Trial
    from fovea.soup.soup_validation import Validation

ONE_DEVICE = ("++trainer.devices=1", "++trainer.num_nodes=1", "++trainer.strategy=auto")
WHOLE = ("++trainer.limit_val_batches=null", "++trainer.overfit_batches=0.0", "output_dir=null")


def main() -> None:
    """Read the command line, average and write the folder."""
    typed = parser().parse_intermixed_args()
    words = [word for word in typed.folders if "=" in word and not Path(word).exists()]
    names = [word for word in typed.folders if word not in words]
    with prepared():
        if typed.best is not None and typed.best < 1:
            raise ValueError(f"--best {typed.best}: give at least 1")
        folders = [last_run("run") if name == LAST else Path(name).expanduser() for name in names]
        output = typed.output or Path(os.environ.get("RUNS_DIR") or PROJECT / "runs") / "soup" / stamp()
        if not names:
            raise ValueError("name the folders of runs or sweeps")
        if output.exists():
            raise ValueError(f"--output {output} exists: give a new folder")
        make(folders, words, output, typed)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = "of a run or a sweep; or last. Overrides of the runs' config may follow: trainer=cpu data.root=photos"
    made.add_argument("folders", nargs="+", metavar="folder", help=where)
    kept = "average the K best checkpoints of each run, which callbacks=[default,top_k] keeps; default: its best one"
    made.add_argument("--best", type=int, metavar="K", help=kept)
    made.add_argument("--uniform", action="store_true", help="average all candidates, whatever the validation says")
    norm = "BatchNorm's statistics of an average: from an epoch of training images (default), or averaged too"
    made.add_argument("--batch-norm", choices=("recompute", "average"), default="recompute", help=norm)
    made.add_argument("--output", type=Path, metavar="folder", help="a new folder; default: one in RUNS_DIR/soup")
    return made


def make(folders: list[Path], overrides: list[str], output: Path, typed: argparse.Namespace) -> None:
    """Choose, average and write.

    Raises:
        ValueError: the checkpoints can't be averaged, or the runs' data can't be read.
    """
    runs = runs_in(folders)
    print("loading torch ...", flush=True)
    from fovea.soup import candidates
    from fovea.soup.greedy import greedy
    from fovea.soup.soup_file import write_soup

    found = candidates.ordered([one for run in runs for one in candidates.candidates(run, typed.best)])
    candidates.check_compatible(found)
    validation = validation_of(found[0], overrides, typed.batch_norm == "recompute")
    print(f"{'alone':>8}  {'averaged':>8}            {validation.name}")
    trials, weights = [], {}
    for trial in greedy(found, validation, found[0].config["mode"], uniform=typed.uniform):
        trials.append(trial)
        if trial.added:
            weights = validation.weights()
        print(row(trial), flush=True)
    rule = {"rule": "uniform" if typed.uniform else "greedy", "batch_norm": typed.batch_norm}
    rule |= {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "overrides": overrides}
    write_soup(output, trials, weights, validation, rule)
    print("\n".join([f"soup: {short_path(output)}", *next_commands(output)]))


def runs_in(folders: list[Path]) -> list[Path]:
    """Return the runs in these folders that have a checkpoint, and print which have none."""
    runs = [entry.folder for entry in find(folders)]
    usable = [run for run in runs if existing(run, TO_EVALUATE)]
    if not usable:
        raise ValueError(f"{folders[0]}: no run has a checkpoint")
    for run in runs:
        if run not in usable:
            print(f"left out, because it has no checkpoint: {short_path(run)}")
    return usable


def validation_of(candidate: "Candidate", overrides: list[str], recompute: bool) -> "Validation":
    """Build the validation of the candidate's run, as evaluate.py does with split=val."""
    from fovea import build
    from fovea.runs import provenance
    from fovea.soup.soup_validation import Validation

    cfg, words = config_of(candidate.run, overrides)
    resume_rules.divide_as_trained(cfg, candidate.run, words)
    data = build.datamodule(cfg, to_train=False)
    provenance.log_changed_data(candidate.run, data.fingerprint(), resume_rules.same_source(cfg, candidate.run))
    for split in ("val", "train") if recompute else ("val",):
        if split not in data.splits:
            needs = "the validation" if split == "val" else "BatchNorm's statistics (else: --batch-norm average)"
            raise ValueError(f"{data.root} has no {split} images, which are needed for {needs}")
    task = build.task(cfg, to_train=False)
    build.check_loss(task, data, ["val"])
    data.evaluated = build.average_views(cfg, task, data.augment["eval"])
    return Validation(task, data, build.trainer(cfg, alone=True), recompute)


def config_of(run: Path, overrides: list[str]) -> tuple[DictConfig, list[str]]:
    """Return the run's config for an evaluation on one device, and the overrides as Hydra reads them."""
    words = [quoted(word) for word in overrides]
    own = any(word.startswith(("trainer=", "trainer.accelerator=")) for word in words)
    accelerator = [] if own else ["++trainer.accelerator=auto"]
    with own_hydra():
        all_words = [with_value("run", run), *words, *accelerator, *ONE_DEVICE, *WHOLE]
        read = read_command("evaluate", ("run",), all_words)
        cfg = hydra.compose(read.config_name, read.words)
        check(cfg, "evaluate", read.source)
    cfg.callbacks = {}  # the average is validated as the trained weights are
    return cfg, words


def row(trial: "Trial") -> str:
    """Return a line of the table: the candidate's own figure, and that of the average with it."""
    alone, averaged = ("" if math.isnan(value) else f"{value:.4f}" for value in (trial.candidate.value, trial.value))
    told = "added" if trial.added else "left out"
    return f"{alone:>8}  {averaged:>8}  {told:8}  {short_path(trial.candidate.file)}"


def next_commands(folder: Path) -> list[str]:
    """Return the commands that use the average."""
    python, run = short_path(sys.orig_argv[0]), f"run={short_path(folder)}"
    programs = {"evaluate": [run], "predict": [run, "source=photos"]}
    return [shlex.join([python, short_path(PROJECT / "src" / f"{p}.py"), *words]) for p, words in programs.items()]


if __name__ == "__main__":
    main()
