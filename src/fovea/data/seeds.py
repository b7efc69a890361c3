"""One number's worth of randomness from several: what an image or a step draws follows from where it stands."""

MASK = (1 << 64) - 1


def mix(*numbers: int) -> int:
    """A 63-bit seed from non-negative integers, well mixed in its low bits too (torch's CPU generator takes just 32).

    Source: the finaliser of SplitMix64, Steele et al. 2014, https://doi.org/10.1145/2660193.2660195, after each number.
    """
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
        state ^= state >> 31
    return state >> 1
