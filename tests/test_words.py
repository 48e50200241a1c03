"""The words of the field: the old house words of docs/glossary.md do not come back in code, docs or messages."""

import collections
import dataclasses
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# The glossary explains the old words, the changelog names what was renamed, and this file looks for them.
EXCEPTED = {"docs/glossary.md", "CHANGELOG.md", "tests/test_words.py"}
SUFFIXES = {".bzl", ".cc", ".cmake", ".h", ".inc", ".json", ".lds", ".md", ".py", ".sh", ".toml", ".txt", ".yaml"}
NAMES = {"BUILD", "BUILD.bazel", "Makefile", "WORKSPACE", "run"}


@dataclasses.dataclass(frozen=True)
class Word:
    """An old word. now: what to write instead; old: a text that must be found; fine: one that must not."""

    pattern: str
    now: str
    old: str
    fine: str = ""


WORDS = [
    Word(r"(?i)weigh(?!t)\w*|\w*Weigh(?!t)\w*", "softmax weights", "TestWeighSome weighs", "weights, WeightFactor"),
    Word(r"\b_?blend(?!v)\w*|\w*Blend\w*", "pv_int8", "blend_pages", "_mm256_blendv_epi8, _mm512_mask_blend_ps"),
    Word(r"\bChoose\w*|\bchoose_row\b|(?i:\bchosen (?:position|token|key|logit|row)s?)", "select", "ChooseTopK"),
    Word(r"(?i:\bhalves\b)|\bHalves\w*|\w+Halves\b|\bHalf(?:From|Group|Lanes|Vecs)\w*", "FP16", "AddHalves, halves"),
    Word(r"(?i)\bby turns\b|\bin turn\b|\bin_turn\b|\btak(?:e|es|ing) turns\b", "interleaved", "by turns", "in turns"),
    Word(
        r"(?i)\b(?:rows?|heads?|quer(?:y|ies)) (?:that )?(?:reads?|keeps?|sees?)\b",
        "a query attends to, selects; visible",
        "a row reads everything",
        "it reads a row",
    ),
    Word(
        r"(?i)\b(?:kept|seen) positions?\b|\bpositions? (?:is |are )?kept\b|KeptPositions", "selected", "kept positions"
    ),
    Word(
        r"(?i)\btails?\b|\bno_tail\b|tail=|\w*(?:Row|Drop|Spread|Load|Parse)Tail\w*", "compensate", "tail=on", "detail"
    ),
    Word(r"\bTakeOver\w*|(?i:\btak(?:e|es|en|ing) over\b)", "compensate", "TakeOver()", "take part"),
    Word(
        r"\bAddShares\b|\bkKeptShare\b|\bkept_share\b|\b(?:Add|Spread|Check|Test)Rest\b|\brest_[bs]\w*",
        "residual",
        "AddRest",
    ),
    Word(r"rows_without_tail", "rows_not_compensated", "rows_without_tail"),
    Word(r"(?i)page[_ ]?bounds", "key bounds", "PageBounds, page_bounds"),
    Word(
        r"(?i)\bpages? (?:that )?(?:is |are )?(?:not scored|left out)\b|\bleav(?:e|es|ing) (?:out pages|pages out)\b"
        r"|LeftOut",
        "skipped pages",
        "pages that are not scored",
        "pages scored",
    ),
    Word(
        r"\bNoteLosses\b|(?i:\bnoted rows?\b|\brows? (?:that )?noted?\b|\bfew notes\b)",
        "skip-loss sample",
        "NoteLosses",
    ),
    Word(r"\bkMargins\b|\bPageHistory\b|\bpage_history\b", "skip margin", "kMargins", "kSkipMargins"),
    Word(r"(?i)unscored", "max_skipped_mass", "unscored=0.01"),
    Word(r"(?i)\bpretend\w*", "assume a length", "Pretend()"),
    Word(r"(?i)\bsilenc(?:e|ed|es|ing)\b", "ablate; silently", "Silence()", "silent, silently"),
    Word(r"(?i)\bk?living(?:_?keys)?\b", "in use", "kLiving, a living cache"),
    Word(r"PageExtras|page_extras|mode_extras|MakeExtras|\bExtraOf\b", "DerivedPages", "mode_extras.h"),
    Word(r"(?i:\brough\b)|\bRough\w*|\w+Rough\w*", "approximate, allow_fp16", "AddRough", "roughly"),
    Word(r"(?i)\blevers?\b|levers_", "optimizations", "levers_2048.png", "cleverly"),
    Word(r"(?i)\balike\b", "identical, similar", "they are alike"),
    Word(r"(?i)\bcarv(?:e|ed|es|ing)\b|\bramps?\b", "(deleted)", "carve", "trampoline"),
    Word(r"\bBehind\b", "After", "Behind()", "behind"),
    Word(r"(?i)who_?runs\b", "node_assignments", "who_runs"),
    Word(r"(?i)keep_for_?ever|kept for ever", "keep_alive", "keep_for_ever()"),
    Word(r"(?i)\bdoubts?\b", "warnings", "doubts", "doubtful"),
    Word(r"(?i)\bmend(?:s|ed|ing)?\b", "fix", "mended", "amend, commend"),
    Word(r"(?<!\{\{ tools )\b(?:[Ii]s|are|was|were) none\b", 'plain: "X is not a Y"', "that is none", "x is None"),
    Word(r"(?i)\baloud\b", "with a message", "skips aloud", "allowed"),
]


def files() -> list[str]:
    """Tracked text files that must speak the field's language."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    return [
        name
        for name in tracked
        if name and name not in EXCEPTED and (Path(name).suffix in SUFFIXES or Path(name).name in NAMES)
    ]


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.now)
def test_patterns_find_the_old_word_and_spare_its_neighbours(word: Word) -> None:
    assert re.search(word.pattern, word.old)
    assert not re.search(word.pattern, word.fine)


def test_old_words_do_not_come_back() -> None:
    names = files()
    assert len(names) > 300
    found: collections.Counter[str] = collections.Counter()
    lines = []
    for name in names:
        text = f"{name}\n{(ROOT / name).read_text('utf-8')}"
        for word in WORDS:
            for match in re.finditer(word.pattern, text):
                found[name.split("/")[0]] += 1
                number = text.count("\n", 0, match.start())
                lines.append(f"{name}:{number}: {match[0]!r}: write {word.now}")
    assert not lines, f"{len(lines)} old words ({dict(found)}); docs/glossary.md has the new ones:\n" + "\n".join(lines)
