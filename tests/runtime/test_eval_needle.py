"""Needles: where they are put, that their answers are nowhere else, and what counts as found."""

import random
from pathlib import Path

import pytest
from cli_runner import write_speaking_bundle

from shadowattn.models.bundle import read_manifest
from shadowattn.runtime.evaluate.evaluation import evaluate
from shadowattn.runtime.evaluate.needle import KINDS, CaseBuilder, Filler, Needle, draw_needle, split_sentences
from shadowattn.runtime.evaluate.options import EvalOptions
from shadowattn.runtime.evaluate.retrieval import fitting_lengths

PROSE = " ".join(f"Sentence number {word} says nothing of note." for word in ("one", "two", "three", "four") * 30)


def words(text: str) -> list[str]:
    return text.split()


@pytest.fixture
def builder() -> CaseBuilder:
    return CaseBuilder([Filler.of("prose", PROSE, words)], words, seed=1)


def test_sentences() -> None:
    text = 'He came. "Did he?" she asked (yes!). (It cost 3.5 pounds,\nthey\nsaid.) No.\n\nA title\n\nMore.'
    assert split_sentences(text) == (
        "He came.",
        '"Did he?" she asked (yes!).',
        "(It cost 3.5 pounds, they said.)",
        "No.",
        "A title",
        "More.",
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_is_in_its_fact_only(kind: str) -> None:
    needles = [draw_needle(kind, random.Random(seed)) for seed in range(50)]
    assert all(needle.is_in(needle.fact) and not needle.is_in(needle.question) for needle in needles)
    assert len({needle.value for needle in needles}) > 5


@pytest.mark.parametrize("depth", [0.0, 0.3, 0.9, 1.0])
def test_place_of_a_needle(builder: CaseBuilder, depth: float) -> None:
    cases = builder.cases(200, [depth], 8)
    assert [case.needle.kind for case in cases] == [*KINDS, *KINDS]
    for case in cases:
        text, question = case.prompt.split("\n\n")
        assert question == case.needle.question
        before, after = text.split(case.needle.fact)
        assert before == "" or before.endswith(". ")  # a boundary of sentences
        assert after == "" or after.startswith(" Sentence")
        filler = len(words(before)) + len(words(after))
        assert len(words(before)) / filler == pytest.approx(case.depth) == pytest.approx(depth, abs=0.03)
        assert not case.needle.is_in(before + after)
        assert 180 <= len(case.token_ids) <= 200
    assert len({case.prompt for case in cases}) == 8


def test_every_case_is_the_same_again(builder: CaseBuilder) -> None:
    both = builder.cases(100, [0.5, 0.7], 4)
    assert both == builder.cases(100, [0.5, 0.7], 4)
    other = CaseBuilder(builder.fillers, words, seed=2).cases(100, [0.5, 0.7], 4)
    assert [case.needle for case in other] != [case.needle for case in both]


def test_a_value_that_the_filler_holds_is_not_taken() -> None:
    taken = " ".join(f"The {colour} {animal} slept." for colour in ("purple", "orange") for animal in ("otter", "lynx"))
    filler = Filler.of("animals", f"{taken} {PROSE}", words)
    for seed in range(40):
        case = CaseBuilder([filler], words, seed).cases(300, [0.5], 2)[1]
        assert case.prompt.lower().count(case.needle.value) == 1


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("It is 48213.", True),
        ("It is 48,213", True),
        ("148213", False),
        ("4821", False),
        ("", False),
    ],
)
def test_what_counts_as_found(answer: str, found: bool) -> None:
    assert Needle("code", "The code is 48213.", "What?", "48213").is_in(answer) == found


def test_words_count_in_any_case() -> None:
    needle = Needle("mascot", "It is the purple otter.", "What?", "purple otter")
    assert needle.is_in("A PURPLE Otter!")
    assert not needle.is_in("purple otters")


def test_texts_that_do_not_do(builder: CaseBuilder) -> None:
    with pytest.raises(ValueError, match="prose: wanted more than 2,000 tokens of sentences around a needle, got 840"):
        builder.cases(2000, [0.5], 1)
    code = CaseBuilder([Filler.of("code", "x " * 5000 + "\n\nEnd.", words)], words, 1)
    with pytest.raises(ValueError, match="code: wanted at least two sentences within 100 tokens"):
        code.cases(100, [0.5], 1)


def test_lengths_that_fit(tiny: Path) -> None:
    manifest = read_manifest(tiny)
    assert fitting_lengths(EvalOptions(needle_lengths=(100, 232)), manifest) == (100, 232)
    assert fitting_lengths(EvalOptions(session={"max_length": 2500}), manifest) == (1000, 2000)
    with pytest.raises(ValueError, match=r"--needle_lengths: wanted at most 232 \(.*\), got 240"):
        fitting_lengths(EvalOptions(needle_lengths=(100, 240)), manifest)
    with pytest.raises(ValueError, match="none of the usual ones fits 232 positions"):
        fitting_lengths(EvalOptions(), manifest)


def test_rows_and_cases(tmp_path: Path, tiny: Path) -> None:
    bundle = write_speaking_bundle(tmp_path / "tiny.bundle", chat_template=None)
    text = tmp_path / "prose.txt"
    text.write_text("So it is. Is it so? " * 100)
    options = EvalOptions(
        modes=("shadow",),
        keep_ratios=(0.1,),
        tasks=("needle",),
        texts=(str(text),),
        needle_lengths=(180, 230),
        needle_depths=(0.5,),
        needles=2,
        max_tokens=300,
        session={"num_threads": 1},
    )
    found = evaluate(bundle, options)
    assert [(row["mode"], row["length"], row["cases"]) for row in found["rows"]] == [
        *(("dense", 180, 2), ("dense", 230, 2), ("shadow", 180, 2), ("shadow", 230, 2))
    ]
    for row in found["rows"]:
        assert row["found"] == row["found_dense"] - row["lost"] + row["gained"]
    assert len(found["needle_cases"]) == 4
    assert set(found["needle_cases"][0]["answers"]) == {"dense", "shadow 0.1"}
    mute = EvalOptions(modes=("shadow",), tasks=("needle",), needle_lengths=(100,), window=50)
    with pytest.raises(ValueError, match="has no tokenizer, so --tasks=needle cannot be done"):
        evaluate(tiny, mute)
