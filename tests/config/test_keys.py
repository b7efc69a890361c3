from collections.abc import Iterator

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import UnsupportedInterpolationType

from fovea.config.keys import FIXED, KEYS, PATTERNS, Key, Typed, row, rule
from fovea.config.resolvers import RESOLVERS, resolvers


def test_a_key_that_is_not_in_the_table_gets_the_strict_default() -> None:
    for key in ("mine", "trainer.mine", "callbacks.mine.url", "data.mine"):
        assert row(key) == Key()
        assert rule(key, "resume") is None  # with force=true only
        assert not rule(key, "reads")  # its text is a place to write to


def test_a_sections_rule_holds_for_the_keys_below_it_that_have_no_row() -> None:
    assert rule("model.stem.width", "resume") == FIXED
    assert rule("logger.wandb.tags", "own") is True
    assert rule("data.read.csv", "reads") is True
    assert rule("data.read.cache", "reads") is False
    assert rule("callbacks.best.folder", "resume") == "a place to write to"
    assert rule("callbacks.early_stopping.patience", "resume")
    assert rule("callbacks.early", "resume") is None


def test_a_pattern_matches_keys_of_any_name() -> None:
    assert row("data.read.train_csv").typed == row("data.read.csv").typed == Typed.PATH
    assert row("logger.mine.experiment_name").typed == Typed.TEXT
    assert row("trainer.profiler.dirpath").typed == Typed.PATH
    assert row("data.read.csv.deeper") == Key()


def test_every_row_has_a_value_and_every_reason_fits_into_a_sentence() -> None:
    assert not [key for key, found in KEYS.items() if found == Key()]
    assert not [key for key in PATTERNS if KEYS[key].type]  # types are checked by exact key
    reasons = [found.resume for found in KEYS.values() if found.resume]
    assert all(reason and reason[0].islower() for reason in reasons)


@pytest.fixture
def resolver_of_ones_own() -> Iterator[None]:
    OmegaConf.register_new_resolver("mine", lambda: 7)
    yield
    OmegaConf.clear_resolver("mine")


def test_a_program_that_loads_a_run_keeps_its_own_resolvers(
    resolver_of_ones_own: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    OmegaConf.clear_resolvers()
    OmegaConf.register_new_resolver("mine", lambda: 7)
    monkeypatch.setenv("HOME", "/home/me")
    cfg = OmegaConf.create({"a": "${mine:}", "b": "${oc.env:HOME}", "c": "${oc.decode:'[1]'}"})
    with resolvers():
        assert all(map(OmegaConf.has_resolver, RESOLVERS))
        with pytest.raises(Exception, match="no yaml of conf/ reads"):
            _ = cfg.b
        with pytest.raises(UnsupportedInterpolationType):
            _ = cfg.c
    assert (cfg.a, cfg.b, cfg.c) == (7, "/home/me", [1])
