"""One number's worth of randomness from several: what an image or a step draws follows from where it stands.

Source: SplitMix64, Steele et al. 2014, https://doi.org/10.1145/2660193.2660195.
"""

import numpy as np

MASK = (1 << 64) - 1
STEP = 0x9E3779B97F4A7C15
FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def mix(*numbers: int) -> int:
    """A 63-bit seed from non-negative integers, well mixed in its low bits too (torch's CPU generator takes just 32).

    SplitMix64's finaliser after each number.
    """
    state = 0
    for number in numbers:
        state = (state + number + STEP) & MASK
        state = ((state ^ (state >> 30)) * FIRST) & MASK
        state = ((state ^ (state >> 27)) * SECOND) & MASK
        state ^= state >> 31
    return state >> 1


def uniforms(seed: int, keys: np.ndarray, count: int) -> np.ndarray:
    """(B, count) float64 in [0, 1), row b a function of `seed` and of keys[b] alone.

    SplitMix64, started where mixing seed and the key's numbers ends. A batch's draws cost a few microseconds, and no
    generator's state is touched.

    Args:
        seed: non-negative.
        keys: (B, n) non-negative integers.
        count: draws an image.
    """
    state = np.zeros(len(keys), np.uint64)
    for column in (np.full(len(keys), seed, np.uint64), *keys.astype(np.uint64).T):
        state = _finalise(state + column + np.uint64(STEP))
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(STEP)  # wraps, as it should
    return (_finalise(state[:, None] + steps) >> np.uint64(11)) * 2.0**-53  # (B, count)


def _finalise(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(FIRST)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(SECOND)
    return state ^ (state >> np.uint64(31))
