"""Reads the command line: the yaml to compose, its overrides, and the saved run that the command names."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType

from fovea.cli.paths import with_value
from fovea.config import pretrained, resume_rules, saved, untrusted
from fovea.config.keys import rule
from fovea.config.resolvers import CONF

if TYPE_CHECKING:
    from fovea.config.check import Program


class Command(NamedTuple):
    """A command for Hydra to compose.

    Attributes:
        config_name: the yaml in conf/.
        words: overrides and Hydra's own switches.
        source: the run folder whose config is used, if any.
    """

    config_name: "Program"
    words: list[str]
    source: untrusted.Source | None = None

    @property
    def has_switches(self) -> bool:
        """Whether there is a switch such as -m or --cfg job."""
        return any(word.startswith("-") for word in self.words)

    @property
    def asks_for_help(self) -> bool:
        return not {"--help", "-h"}.isdisjoint(self.words)


def read_command(config_name: "Program", keys: Sequence[str], typed: list[str]) -> Command:
    """Return the command that was typed. A saved run's config is stored as `run_config`, which the yaml includes.

    Args:
        config_name: the program's yaml; `resume` and `rerun` replace it with resume.yaml or rerun.yaml.
        keys: the keys that name a run folder: `resume`, `rerun` or `run`.
        typed: words in Hydra's grammar.

    Raises:
        ValueError: the saved run is missing or damaged, or the other overrides are not allowed with it.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        typed = [*typed, "hydra/job_logging=disabled"]
    words = [word for word in typed if word.startswith("~") or (not word.startswith("-") and "=" in word)]
    overrides = OverridesParser.create().parse_overrides(words)
    named = {o.key_or_group: o.value() for o in overrides if o.key_or_group in keys}
    if len(named) > 1:
        raise ValueError(" and ".join(f"{key}=" for key in named) + " both name a run: keep one of them")
    (key, folder), *_ = [*named.items(), ("", None)]
    if folder is None:
        if keys == ("run",) and not any(word.startswith("-") for word in typed):
            raise ValueError("run=<run folder> is missing: type the folder of the run to use, or run=last")
        ConfigStore.instance().store(name="run_config", node={})
        return Command(config_name, typed)
    base, source = _saved_run(key, Path(str(folder)), overrides)
    ConfigStore.instance().store(name="run_config", node=base)
    in_base = {o.input_line for o in _groups(overrides)}
    name: Program = "resume" if key == "resume" else "rerun" if key == "rerun" else config_name
    return Command(name, [word for word in typed if word not in in_base], source)


def _saved_run(key: str, folder: Path, overrides: list[Override]) -> tuple[dict[str, Any], untrusted.Source]:
    """Load the config of the run in `folder`, replace the groups that were typed, and return it with its source."""
    base = saved.load(f"{key}={folder}", folder, from_its_start=key == "rerun")
    groups = _groups(overrides)
    unchanged = resume_rules.unchanged_groups(folder, groups, overrides) if key == "resume" else []
    chosen = [o for o in groups if o not in unchanged]
    if key == "run":
        saved.forget_limits(base)
    base = saved.with_groups(base, chosen)
    if any(o.key_or_group == "monitor" and o.value() != base.get("monitor") for o in overrides):
        base["mode"] = None  # follows from the new metric, unless it is typed
    source = untrusted.Source(folder, saved.typed_keys(overrides))
    if key == "resume":
        force = any(o.key_or_group == "force" and o.value() is True for o in overrides)
        others = [o for o in overrides if o.key_or_group not in ("resume", "force") and o not in unchanged]
        base["forced"] = resume_rules.forced_changes(folder, base, others, force)
    elif key == "rerun":
        resume_rules.refuse_unfinished(f"rerun={folder}", folder)
        if pretrained.SECTION in base and any(o.key_or_group in pretrained.NAMES_WEIGHTS for o in overrides):
            base[pretrained.SECTION] = dict.fromkeys(base[pretrained.SECTION])  # filled in from the other weights
        if any(o.key_or_group.split(".")[0] in ("data", "sampler") for o in overrides):
            base |= {key: None for key in ("class_counts", "epoch_images") if key in base}  # counted in the other data
    return base, source


def _groups(overrides: list[Override]) -> list[Override]:
    return [o for o in overrides if o.type == OverrideType.CHANGE and (CONF / o.key_or_group).is_dir()]


def job_resume_command(folder: Path, overrides: Sequence[str]) -> Command:
    """Return the command that resumes a sweep's job in its folder.

    Overrides of parts are typed again, because a saved config may not name places outside of its run's folder.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    typed = [o for o in parsed if not o.is_delete() and _is_part(o.key_or_group)]
    retyped = [f"++{(o.input_line or '').lstrip('+')}" if o.is_add() else o.input_line or "" for o in typed]
    return read_command("train", ("resume",), [with_value("resume", folder), *retyped])


def _is_part(key: str) -> bool:
    return "." in key and bool(rule(key, "parts")) and not rule(key, "reads")


def with_rerun_override(words: list[str]) -> list[str]:
    """Replace `--rerun <folder>` and `--rerun=<folder>` by rerun=<folder>."""
    if "--rerun" in words[:-1]:
        n = words.index("--rerun")
        words = [*words[:n], f"--rerun={words[n + 1]}", *words[n + 2 :]]
    return [word.removeprefix("--") if word.startswith("--rerun=") else word for word in words]
