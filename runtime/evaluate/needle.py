"""Needles: a fact with a random answer, put between two sentences of a long text; a question about it comes last.

Pure: no session. The place of everything follows from the seed, the length, the depth and the number of the needle.
"""

import bisect
import dataclasses
import itertools
import random
import re
from collections.abc import Callable, Sequence

Encode = Callable[[str], Sequence[int]]

_SENTENCE_END = re.compile(r"""(?:(?<=[.!?])|(?<=[.!?]["')\]]))\s+(?=["'(\[]?[A-Z])|\n\s*\n""")
_MOST_CHARACTERS = 1_000_000  # of the filler; enough that every case has its own
_DRAWS = 100
_PLACES = ("Lindholm", "Brackwater", "Ostervik", "Calder Point", "Mirefield", "Tarnwick", "Helmsgate", "Dunmorrow")
_PEOPLE = ("Avery Stroud", "Ingrid Vale", "Tobias Renn", "Marta Quill", "Edwin Farrow", "Noor Haskell")
_CITIES = ("Valparaiso", "Trondheim", "Samarkand", "Winnipeg", "Mombasa", "Ljubljana", "Nagasaki", "Cordoba", "Tbilisi")
_COLOURS = ("purple", "orange", "crimson", "turquoise", "golden", "scarlet", "silver", "emerald")
_ANIMALS = ("otter", "heron", "walrus", "badger", "lynx", "pelican", "gecko", "moose", "hedgehog")


@dataclasses.dataclass(frozen=True)
class Needle:
    """value: what an answer must contain; it is in the fact, and nowhere else in a case."""

    kind: str
    fact: str
    question: str
    value: str

    def is_in(self, answer: str) -> bool:
        """Whether the answer holds the value, whatever its case and with or without commas between digits."""
        plain = re.sub(r"(?<=\d),(?=\d{3})", "", answer)
        return re.search(rf"(?<!\w){re.escape(self.value)}(?!\w)", plain, re.IGNORECASE) is not None


@dataclasses.dataclass(frozen=True)
class Case:
    """A prompt with a needle in it. depth: where the fact is, as a share of the filler's tokens before it."""

    text: str
    length: int
    depth: float
    needle: Needle
    prompt: str
    token_ids: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Filler:
    """Sentences of a text, and how many tokens each has."""

    text: str
    sentences: tuple[str, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, name: str, prose: str, encode: Encode) -> "Filler":
        sentences = split_sentences(prose[:_MOST_CHARACTERS])
        return cls(name, sentences, tuple(len(encode(f" {sentence}")) for sentence in sentences))

    def take(self, start: int, budget: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Sentences from number `start` on (after the last comes the first) that have `budget` tokens or fewer."""
        order = [*range(start, len(self.sentences)), *range(start)]
        sums = list(itertools.accumulate(self.counts[i] for i in order))
        count = bisect.bisect_right(sums, budget)
        if count == len(order):
            raise ValueError(
                f"{self.text}: wanted more than {budget:,} tokens of sentences around a needle, got {sums[-1]:,}; give "
                "a longer text or smaller --needle_lengths"
            )
        if count < 2:
            raise ValueError(
                f"{self.text}: wanted at least two sentences within {budget:,} tokens, to put a needle between; give a "
                "text of prose or larger --needle_lengths"
            )
        return tuple(self.sentences[i] for i in order[:count]), tuple(self.counts[i] for i in order[:count])


def split_sentences(prose: str) -> tuple[str, ...]:
    """Sentences without line breaks in them."""
    parts = (" ".join(part.split()) for part in _SENTENCE_END.split(prose))
    return tuple(part for part in parts if part)


def draw_needle(kind: str, random_: random.Random) -> Needle:
    """A fact of that kind with a random answer."""
    place, person = random_.choice(_PLACES), random_.choice(_PEOPLE)
    if kind == "code":
        value = str(random_.randrange(10_000, 100_000))
        what = f"the access code of the {place} archive"
        return Needle(kind, f"{what[0].upper()}{what[1:]} is {value}.", f"What is {what}?", value)
    if kind == "mascot":
        value = f"{random_.choice(_COLOURS)} {random_.choice(_ANIMALS)}"
        what = f"the mascot of the {place} rowing club"
        return Needle(kind, f"{what[0].upper()}{what[1:]} is the {value}.", f"What is {what}?", value)
    if kind == "city":
        value = random_.choice(_CITIES)
        return Needle(
            kind,
            f"{person} keeps the spare key in the city of {value}.",
            f"In which city does {person} keep the spare key?",
            value,
        )
    value = f"{random_.randrange(10, 24)}:{random_.randrange(1, 60):02}"
    question = f"At what time does the last ferry to {place} leave?"
    return Needle(kind, f"The last ferry to {place} leaves at {value}.", question, value)


KINDS = ("code", "mascot", "city", "ferry")


@dataclasses.dataclass(frozen=True)
class CaseBuilder:
    """Puts needles into fillers. encode: the prompt as the model is asked it, so with its chat template."""

    fillers: Sequence[Filler]
    encode: Encode
    seed: int

    def cases(self, length: int, depths: Sequence[float], needles: int) -> list[Case]:
        """For each depth so many needles, of one kind after the other; every case has a filler of its own."""
        places = list(itertools.product(depths, range(needles)))
        cases = []
        for number, (depth, index) in enumerate(places):
            filler = self.fillers[number % len(self.fillers)]
            start = len(filler.sentences) * number // len(places)
            cases.append(self._case(filler, start, length, depth, index))
        return cases

    def _case(self, filler: Filler, start: int, length: int, depth: float, index: int) -> Case:
        random_ = random.Random(f"{self.seed} {length} {depth} {index}")
        sentences, _ = filler.take(start, length)
        needle = _unique_needle(KINDS[index % len(KINDS)], random_, " ".join(sentences))
        budget = length - len(self.encode(_prompt([], needle)))
        while True:
            sentences, counts = filler.take(start, budget)
            place = _boundary(counts, depth)
            prompt = _prompt([*sentences[:place], needle.fact, *sentences[place:]], needle)
            token_ids = tuple(self.encode(prompt))
            if len(token_ids) <= length:
                before = sum(counts[:place]) / sum(counts)
                return Case(filler.text, length, before, needle, prompt, token_ids)
            budget -= len(token_ids) - length


def _unique_needle(kind: str, random_: random.Random, filler: str) -> Needle:
    """Draws until the value is neither in the filler nor in the question."""
    for _ in range(_DRAWS):
        needle = draw_needle(kind, random_)
        if not needle.is_in(filler) and not needle.is_in(needle.question):
            return needle
    raise ValueError(f"no needle of the kind {kind!r} whose answer is not in the text already; give another --text")


def _boundary(counts: Sequence[int], depth: float) -> int:
    """The number of sentences whose tokens come nearest to that share of all."""
    sums = [0, *itertools.accumulate(counts)]
    return min(range(len(sums)), key=lambda i: abs(sums[i] - depth * sums[-1]))


def _prompt(sentences: Sequence[str], needle: Needle) -> str:
    return f"{' '.join(sentences)}\n\n{needle.question}"
