"""What people say in the rooms that are searched: the n-th most frequent word comes every n-th time, as in a language."""

import random
from collections.abc import Iterator
from itertools import accumulate

#: Words by their rank: the first comes in two of three messages, the last in one of five thousand.
WORDS = {"everywhere": 0, "often": 50, "seldom": 500, "rarely": 5_000}
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def sentences(seed: int) -> Iterator[str]:
    """Messages of 3 to 20 words out of 30,000, without end; always the same ones."""
    dice = random.Random(seed)
    words = ["".join(dice.choices(_LETTERS, k=dice.randint(3, 11))) for _ in range(30_000)]
    for word, rank in WORDS.items():
        words[rank] = word
    weights = list(accumulate(1 / (rank + 1) for rank in range(len(words))))
    while True:
        yield " ".join(dice.choices(words, cum_weights=weights, k=dice.randint(3, 20)))
