"""What `--help` says."""

import hydra
from omegaconf import OmegaConf

from fovea.cli.command import Command
from fovea.config.resolvers import CONF

USAGE = """fovea: image classification, single-label and multi-label

  python src/train.py [overrides]                        train, then test the best checkpoint
  python src/train.py resume=<run folder> [overrides]    go on where a run stopped
  python src/train.py rerun=<run folder>                 train it again, and say whether the result is identical
  python src/train.py -m seed=0,1,2 model=a,b            a sweep
  python src/evaluate.py run=<run folder> [overrides]    test a run again, or on other data
  python src/predict.py run=<run folder> source=<images> output=<.csv|.json|.parquet>
  python scripts/pack.py data=<name> output=<folder>     pack a dataset for fast reading (data.store=<folder>)

A run folder may also be typed as last, the newest in RUNS_DIR; run=<run folder>/checkpoints/last.ckpt takes that
checkpoint instead of the best one.
group=option takes conf/<group>/<option>.yaml; key.subkey=value sets a value; +key=value adds one.
--cfg job shows the config and runs nothing; --hydra-help, --info and -m are Hydra's.
"""


def help_text(command: Command) -> str:
    """Usage, groups and the config as the overrides leave it. (Hydra's own help loads every yaml, twice.)"""
    folders = sorted(folder for folder in CONF.iterdir() if folder.is_dir() and folder.name != "hydra")
    groups = [f"  {f.name}: {', '.join(sorted(y.stem for y in f.glob('*.yaml')))}" for f in folders]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose(command.config_name, [word for word in command.words if not word.startswith("-")])
    return "\n".join([USAGE, "Groups", *groups, "", "Config", OmegaConf.to_yaml(composed)])
