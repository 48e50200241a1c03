"""Stop strings across pieces: the same text whatever the pieces, and as early as it can be."""

import random

import pytest

from shadowattn.runtime.text.stop_strings import StopStrings


def slow(text: str, strings: list[str]) -> tuple[str, bool]:
    """Letter by letter: the text before the stop string that is complete first, the longest of those that end there."""
    for end in range(1, len(text) + 1):
        met = [string for string in strings if text[:end].endswith(string)]
        if met:
            return text[: end - max(map(len, met))], True
    return text, False


def streamed(pieces: list[str], strings: list[str]) -> tuple[str, bool]:
    stops = StopStrings(strings)
    out = ""
    for piece in pieces:
        certain, met = stops.push(piece)
        out += certain
        if met:
            return out, True
    return out + stops.flush(), False


def test_random_pieces_give_what_letters_give() -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    met = 0
    for _ in range(3000):
        strings = ["".join(rng.choices("ab", k=rng.randint(1, 4))) for _ in range(rng.randint(0, 3))]
        text = "".join(rng.choices("abc", k=rng.randint(0, 12)))
        cuts = sorted(rng.choices(range(len(text) + 1), k=rng.randint(0, 4)))
        pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        found = streamed(pieces, strings)
        assert found == slow(text, strings), (pieces, strings)
        met += found[1]
    assert met > 300


@pytest.mark.parametrize(
    ("strings", "pieces", "certain"),
    [
        ([], ["ab", "c"], ["ab", "c"]),
        (["\n\n"], ["a\n", "b\n", "\nc"], ["a", "\nb", ""]),
        (["END"], ["xE", "N", "d"], ["x", "", "ENd"]),
        (["aab"], ["aaa", "b"], ["a", ""]),
    ],
)
def test_only_what_may_become_one_is_held_back(strings: list[str], pieces: list[str], certain: list[str]) -> None:
    stops = StopStrings(strings)
    assert [stops.push(piece)[0] for piece in pieces] == certain
