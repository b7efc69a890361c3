import base64
import io

import numpy as np
import torch
from PIL import Image

from fovea.report.thumbnails import data_uris


def decoded(uri: str) -> np.ndarray:
    kind, _, text = uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))), np.float32)


def test_an_image_is_read_back_from_its_uri() -> None:
    ramp = torch.arange(40, dtype=torch.uint8).mul(5).expand(3, 30, 40)  # (3, 30, 40)
    (uri,) = data_uris([ramp], 10**6)
    assert np.abs(decoded(uri) - ramp.permute(1, 2, 0).numpy()).max() < 8


def test_the_quality_falls_until_all_fit() -> None:
    noise = [torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8) for _ in range(4)]
    best, smaller, least = (sum(map(len, data_uris(noise, most))) for most in (10**6, 30_000, 1))
    assert least < smaller <= 30_000 < best
    assert data_uris([], 1) == []
