"""A yaml that is added to a group of conf/ is tested with the others, and no list in tests/ has to be edited."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conf_groups import GROUPS

from fovea.config.resolvers import PROJECT

ADDED = {
    "metrics/auroc": (  # as docs/own-parts.md's
        "# @package _global_\nmetrics:\n  auroc: {_target_: torchmetrics.classification.MulticlassAUROC, "
        'num_classes: "${num_classes}"}\n'
    ),
    "scheduler/halving": (
        "_target_: torch.optim.lr_scheduler.StepLR\n_partial_: true\ninterval: epoch\nstep_size: 2\ngamma: 0.5\n"
    ),
    "optimizer/heavy_ball": "_target_: torch.optim.SGD\n_partial_: true\nlr: 0.01\nmomentum: 0.99\n",
    "loss/margin": "_target_: torch.nn.MultiMarginLoss\n",
    "loss/several_labels": "_target_: timm.loss.AsymmetricLossMultiLabel\nreduction: none\n",
    "model/alexnet": "_target_: torchvision.models.alexnet\nnum_classes: ${num_classes}\n",
    "sampler/by_weight": (PROJECT / "conf" / "sampler" / "weighted.yaml").read_text("utf-8"),
    "augment/still": (PROJECT / "conf" / "augment" / "none.yaml").read_text("utf-8"),
    "callbacks/timer": "timer: {_target_: lightning.pytorch.callbacks.Timer}\n",
    "debug/short": "# @package _global_\ntrainer:\n  max_epochs: 1\n",
    "experiment/mine": (
        "# @package _global_\ndefaults:\n  - override /data: voc\n  - override /model: timm\ntask_name: mine\n"
    ),
}


@pytest.mark.slow
def test_a_new_yaml_in_each_group_is_picked_up_by_the_tests_of_conf(tmp_path: Path) -> None:
    for folder in ("conf", "src", "tests"):
        shutil.copytree(PROJECT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", ".env.example"):
        shutil.copy(PROJECT / file, tmp_path)
    for name, text in ADDED.items():
        (tmp_path / "conf" / f"{name}.yaml").write_text(text, "utf-8")
    for group in GROUPS.keys() - {name.partition("/")[0] for name in ADDED}:
        shutil.copy(tmp_path / "conf" / group / f"{GROUPS[group][0]}.yaml", tmp_path / "conf" / group / "added.yaml")
    tested = sorted(str(file) for file in (tmp_path / "tests").rglob("test_*conf.py"))
    tested += [str(tmp_path / "tests" / name) for name in ("test_mixing.py", "config/test_allowed_targets.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "-rA", *tested]
    done = subprocess.run(command, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-4000:]
    unnamed = [name for name in (*(added.partition("/")[2] for added in ADDED), "added") if name not in done.stdout]
    assert not unnamed
