"""Counter-based random numbers: seeds and uniform draws as pure functions of integers such as (seed, epoch, index).

Source: SplitMix64, Steele et al. 2014, https://doi.org/10.1145/2660193.2660195.
"""

import numpy as np

MASK = (1 << 64) - 1
STEP = 0x9E3779B97F4A7C15
MULTIPLIER_1, MULTIPLIER_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def derive_seed(*numbers: int) -> int:
    """Derive a 63-bit seed from non-negative integers by SplitMix64's finalizer after each number.

    Its low bits are well mixed too: torch's CPU generator uses only the lower 32.
    """
    state = 0
    for number in numbers:
        state = (state + number + STEP) & MASK
        state = ((state ^ (state >> 30)) * MULTIPLIER_1) & MASK
        state = ((state ^ (state >> 27)) * MULTIPLIER_2) & MASK
        state ^= state >> 31
    return state >> 1


def uniforms(seed: int, keys: np.ndarray, count: int) -> np.ndarray:
    """Draw (B, count) float64 in [0, 1); row b depends on `seed` and keys[b] alone.

    SplitMix64, started from the state that `derive_seed(seed, *key)` ends with. A batch takes a few microseconds, and
    no generator's state is changed.

    Args:
        seed: non-negative.
        keys: (B, n) non-negative integers.
        count: draws per row.
    """
    state = np.zeros(len(keys), np.uint64)
    for column in (np.full(len(keys), seed, np.uint64), *keys.astype(np.uint64).T):
        state = _finalize(state + column + np.uint64(STEP))
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(STEP)  # wraps around as intended
    return (_finalize(state[:, None] + steps) >> np.uint64(11)) * 2.0**-53  # (B, count)


def _finalize(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(MULTIPLIER_1)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(MULTIPLIER_2)
    return state ^ (state >> np.uint64(31))
