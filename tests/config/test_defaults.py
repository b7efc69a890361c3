from conf_groups import composed
from omegaconf import OmegaConf

from fovea.config.defaults import changed_keys


def changes(*words: str) -> dict[str, tuple[str, str]]:
    content = OmegaConf.to_container(composed(*words))
    assert isinstance(content, dict)
    return {key: (value, default) for key, value, default in changed_keys({str(k): v for k, v in content.items()})}


def test_the_defaults_differ_in_no_key() -> None:
    assert changes() == {}


def test_typed_keys_and_chosen_yamls_are_listed_with_their_defaults() -> None:
    assert changes("trainer.max_epochs=3", "seed=7", "trainer.deterministic=true") == {
        "trainer.max_epochs": ("3", "12"),
        "seed": ("7", "0"),
        "trainer.deterministic": ("true", "null"),
    }
    assert changes("data.image_size=64", "preprocess.mean=[0,0,0]") == {
        "data.image_size": ("64", "16"),
        "preprocess.mean": ("[0, 0, 0]", "[0.485, 0.456, 0.406]"),
    }
    sgd = changes("optimizer=sgd")
    assert sgd["optimizer._target_"] == ("torch.optim.SGD", "torch.optim.AdamW")
    assert sgd["optimizer.betas"][0] == ""  # the run has no such key
