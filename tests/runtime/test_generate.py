"""generate(): greedy continuation, stop tokens, prefix reuse, and how it ends."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundle import NO_TOKENIZER, write_tiny_bundle
from tiny_decoder import TinyDecoder

from shadowattn.runtime import Session


def _greedy(oracle: TinyDecoder, prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(np.argmax(oracle.forward(tokens)[1][-1])))
    return tokens[len(prompt) :]


@pytest.mark.arm
@pytest.mark.parametrize("executor", ["fused", "pipelined"])
def test_greedy_continuation_is_the_oracles(tiny: Path, oracle: TinyDecoder, text: list[int], executor: str) -> None:
    with Session.open(tiny, keep_ratio=1.0, executor=executor, cache_type="f32") as session:
        assert list(session.generate(text[:40], 12)) == _greedy(oracle, text[:40], 12)
        assert session.stop_reason == "max_new_tokens"
        assert session.length == 40 + 11  # the last token was not needed in the cache


@pytest.mark.arm
def test_only_what_is_new_is_prefilled(tiny: Path, text: list[int]) -> None:
    done: list[tuple[int, int]] = []

    def note(now: int, total: int) -> None:
        done.append((now, total))

    with Session.open(tiny, cache_type="f32") as session:
        first = list(session.generate(text[:60], 4, on_progress=note))
        assert done[-1] == (60, 60)
        done.clear()
        longer = [*text[:60], *first, *text[60:70]]
        list(session.generate(longer, 2, on_progress=note))
        assert done[-1] == (11, 11), "the last generated token and ten new ones"
        done.clear()
        assert list(session.generate(text[:60], 4, on_progress=note)) == first
        assert done[-1] == (1, 1), "a prompt that is all in the cache runs its last token again"
        done.clear()
        list(session.generate([*text[:30], *text[90:95]], 1, on_progress=note))
        assert done[-1] == (5, 5)


def test_reuse_changes_no_token(tiny: Path, text: list[int]) -> None:
    prompts = [text[:50], [*text[:30], *text[100:120]], text[:90], text[5:9]]
    with Session.open(tiny, min_k=8, cache_type="f32") as session:
        reused = [list(session.generate(prompt, 6)) for prompt in prompts]
    for prompt, tokens in zip(prompts, reused, strict=True):
        with Session.open(tiny, min_k=8, cache_type="f32") as session:
            assert list(session.generate(prompt, 6)) == tokens


def test_stops_at_every_stop_token(tiny: Path, tmp_path: Path, text: list[int]) -> None:
    with Session.open(tiny) as session:
        free = list(session.generate(text[:40], 10))
        stop = free[5]
        wanted = free[: free.index(stop)]
        assert list(session.generate(text[:40], 10, stop_token_ids=[96, stop])) == wanted
        assert session.stop_reason == "stop_token"
    tokenizer = type(NO_TOKENIZER)(None, None, None, (stop,), {})
    write_tiny_bundle(tmp_path / "stops", tokenizer=tokenizer)
    with Session.open(tmp_path / "stops") as session:
        assert list(session.generate(text[:40], 10)) == wanted
        assert list(session.generate(text[:40], 10, stop_token_ids=[])) == free


def test_ends_when_the_context_is_full(tiny: Path, text: list[int]) -> None:
    with Session.open(tiny, max_length=50) as session:
        tokens = list(session.generate(text[:45], 100))
        assert len(tokens) == 6  # five that were decoded, and one more
        assert session.stop_reason == "context_full"
        assert session.length == session.max_length == 50
        assert len(list(session.generate(text[:50], 3))) == 1


def test_seeds(tiny: Path, text: list[int]) -> None:
    with Session.open(tiny) as session:
        a, b, c = (list(session.generate(text[:20], 15, temperature=1.0, seed=seed)) for seed in (1, 1, 2))
    assert a == b
    assert a != c


def test_left_half_way(tiny: Path, text: list[int]) -> None:
    with Session.open(tiny) as session:
        whole = list(session.generate(text[:20], 10))
        tokens = session.generate(text[:20], 10)
        assert [next(tokens), next(tokens)] == whole[:2]
        tokens.close()  # type: ignore[attr-defined]
        assert session.length == 21
        assert list(session.generate(text[:20], 10)) == whole


@pytest.mark.parametrize(
    ("prompt", "arguments", "message"),
    [
        ([], {}, "prompt is empty"),
        ([1], {"max_new_tokens": 0}, "max_new_tokens must be positive, got 0"),
        ([97], {}, "token id 97 at index 0 is outside the vocabulary of 97"),
        ([1] * 257, {}, "257 tokens do not fit: 0 of 256"),
        ([1], {"temperature": -1.0}, "temperature must be"),
    ],
)
def test_refuses_at_once(tiny: Path, prompt: list[int], arguments: dict[str, float], message: str) -> None:
    with Session.open(tiny) as session:
        session.prefill([1, 2, 3])
        with pytest.raises(ValueError, match=message):
            session.generate(prompt, **({"max_new_tokens": 5} | arguments))  # type: ignore[arg-type]
        assert session.tokens == [1, 2, 3]


@pytest.mark.parametrize("change", [{"mode": "dense"}, {"keep_ratio": 0.9}, {"min_k": 99}, {"sinks": 9}, {"latest": 9}])
def test_rows_of_other_settings_are_not_reused(tiny: Path, text: list[int], change: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"keep_ratio": 0.05, "min_k": 4, "sinks": 0, "latest": 1}
    with Session.open(tiny, **(settings | change)) as session:
        wanted = list(session.generate(text[:120], 8))
        kept = session.prefill([3])
    with Session.open(tiny, **settings) as session:
        list(session.generate(text[:120], 8))
        session.configure(**change)
        assert list(session.generate(text[:120], 8)) == wanted
        assert np.array_equal(session.prefill([3]), kept)
        seen: list[int] = []
        list(session.generate(text[:120], 8, on_progress=lambda done, total: seen.append(total)))
        assert seen == [1]  # all rows are of these settings now
        session.prefill([4])
        session.configure(mode="dense", keep_ratio=0.5)
        session.decode(5)  # mixed from here, whatever the settings
        session.configure(**(settings | {"mode": "shadow"} | change))
        assert list(session.generate(text[:120], 8)) == wanted


def test_two_iterations_of_one_session(tiny: Path, text: list[int]) -> None:
    changed = "cache was changed while generate\\(\\) or score_slices\\(\\) was under way; finish one iteration"
    with Session.open(tiny) as session:
        wanted = list(session.generate(text[:20], 6))
        first = session.generate(text[:20], 6)
        assert next(first) == wanted[0]
        second = session.generate(text[30:40], 6)
        next(second)
        with pytest.raises(RuntimeError, match=changed):
            next(first)
        assert len(list(second)) == 5
        for disturb in (lambda: session.rewind(3), lambda: session.decode(1), lambda: session.prefill([1])):
            first = session.generate(text[:20], 6)
            next(first)
            disturb()
            with pytest.raises(RuntimeError, match=changed):
                next(first)
        first = session.generate(text[:20], 6)
        next(first)
        session.configure(mode="dense")  # the rows stay
        assert len(list(first)) == 5


def test_a_score_that_is_disturbed(tiny: Path, text: list[int]) -> None:
    with Session.open(tiny) as session:
        slices = session.score_slices(text[:60])
        next(slices)
        session.decode(5)
        with pytest.raises(RuntimeError, match="cache was changed while"):
            list(slices)
        slices = session.score_slices(text[:60])
        session.prefill(text[:5])
        with pytest.raises(RuntimeError, match="cache was changed while"):
            next(slices)
