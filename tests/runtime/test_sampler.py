"""Greedy, temperature, top-k and top-p choose from the tokens they should, in the proportions they should."""

from collections import Counter

import numpy as np
import pytest

from shadowattn.runtime.session.sampler import Sampler

LOGITS = np.log(np.array([0.05, 0.5, 0.15, 0.3], np.float32))


def _draw(sampler: Sampler, times: int = 4000) -> dict[int, float]:
    return {token: count / times for token, count in Counter(sampler(LOGITS) for _ in range(times)).items()}


def test_greedy_takes_the_best_and_the_lowest_of_equals() -> None:
    assert Sampler()(LOGITS) == 1
    assert Sampler()(np.array([1.0, 3.0, 3.0], np.float32)) == 1


def test_temperature_one_follows_the_probabilities() -> None:
    drawn = _draw(Sampler(1.0, seed=3))  # standard error below 0.008
    assert all(abs(drawn[token] - wanted) < 0.04 for token, wanted in enumerate([0.05, 0.5, 0.15, 0.3])), drawn


def test_low_temperature_is_nearly_greedy() -> None:
    assert _draw(Sampler(0.05, seed=3)).get(1, 0) > 0.99


def test_top_k_keeps_k_and_renormalises() -> None:
    drawn = _draw(Sampler(1.0, top_k=2, seed=3))
    assert set(drawn) == {1, 3}
    assert abs(drawn[1] - 0.625) < 0.04


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.4, {1}), (0.5, {1}), (0.51, {1, 3}), (0.9, {1, 2, 3}), (1.0, {0, 1, 2, 3})]
)
def test_top_p_keeps_the_smallest_sufficient_set(top_p: float, kept: set[int]) -> None:
    assert set(_draw(Sampler(1.0, top_p=top_p, seed=3))) == kept


def slow_probabilities(logits: np.ndarray, temperature: float, top_k: int, top_p: float) -> np.ndarray:
    """[vocab] float64: the distribution that a sampler draws from, by sorting everything."""
    order = np.lexsort((np.arange(len(logits)), -logits))[: top_k or len(logits)]
    weights = np.exp(logits[order].astype(np.float64) / temperature - logits.max() / temperature)
    weights /= weights.sum()
    count = int(np.searchsorted(np.cumsum(weights), top_p * (1 - 1e-12))) + 1 if top_p < 1 else len(order)
    found = np.zeros(len(logits))
    found[order[:count]] = weights[:count] / weights[:count].sum()
    return found


class Fixed:
    """Random numbers that were chosen."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


@pytest.mark.parametrize("vocab", [1, 2, 127, 128, 129, 5000])
@pytest.mark.parametrize(
    ("top_k", "top_p"), [(0, 1.0), (1, 1.0), (7, 1.0), (0, 0.5), (0, 0.99), (0, 0.99999), (40, 0.9)]
)
@pytest.mark.parametrize("ties", [False, True])
def test_every_token_is_drawn_as_often_as_by_sorting_everything(
    vocab: int, top_k: int, top_p: float, ties: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = np.random.default_rng(vocab).normal(size=vocab).astype(np.float32)
    if ties:
        logits = np.round(logits)
    wanted = slow_probabilities(logits, 0.7, min(top_k, vocab), top_p)
    sampler = Sampler(0.7, top_k, top_p, seed=1)
    steps = 2000
    counts = np.zeros(vocab)
    for i in range(steps):  # equal shares of the unit interval: counts differ from the probabilities by rounding only
        monkeypatch.setattr(sampler, "_random", Fixed((i + 0.5) / steps))
        counts[sampler(logits)] += 1
    assert np.abs(counts - wanted * steps).max() <= 1.001
    assert not counts[wanted == 0].any()


def test_the_same_seed_gives_the_same_tokens() -> None:
    first, second, other = (Sampler(1.0, seed=seed) for seed in (11, 11, 12))
    a, b, c = ([sampler(LOGITS) for _ in range(50)] for sampler in (first, second, other))
    assert a == b
    assert a != c


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.1}, "temperature must be 0"),
        ({"temperature": float("nan")}, "temperature must be 0"),
        ({"top_k": -1}, "top_k must be 0"),
        ({"top_p": 0.0}, r"top_p must be in \(0, 1\], got 0.0"),
        ({"top_p": 1.5}, r"top_p must be in \(0, 1\]"),
        ({"top_p": float("nan")}, r"top_p must be in \(0, 1\]"),
        ({"repetition_penalty": 0.0}, r"repetition_penalty must be positive \(1.0: none\), got 0.0"),
        ({"repetition_penalty": float("inf")}, "repetition_penalty must be positive"),
        ({"seed": -3}, "seed must be an integer that is not negative, got"),
    ],
)
def test_refuses(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampler(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_refuses_logits_that_are_not_finite(bad: float) -> None:
    with pytest.raises(ValueError, match=r"logits\[2\] is"):
        Sampler()(np.array([0.0, 1.0, bad], np.float32))


def test_repetition_penalty_is_transformers() -> None:
    import torch
    from transformers import RepetitionPenaltyLogitsProcessor

    rng = np.random.default_rng(5)
    for penalty in (0.5, 1.3, 2.0):
        logits = rng.normal(size=50).astype(np.float32)
        seen = rng.integers(0, 50, 30)
        process = RepetitionPenaltyLogitsProcessor(penalty)
        theirs = process(torch.from_numpy(seen[None]), torch.from_numpy(logits[None].copy()))[0].numpy()
        assert Sampler(repetition_penalty=penalty)(logits, seen.tolist()) == int(np.argmax(theirs))
        drawn = Counter(Sampler(1.0, seed=7, repetition_penalty=penalty)(logits, seen.tolist()) for _ in range(3))
        assert drawn == Counter({Sampler(1.0, seed=7)(theirs): 3})


def test_without_a_penalty_nothing_changes() -> None:
    logits = np.array([1.0, 3.0, 2.0], np.float32)
    assert Sampler(repetition_penalty=1.0)(logits, [1, 1]) == 1
    assert Sampler(repetition_penalty=2.0)(logits, [1, 1]) == 2
    assert Sampler(repetition_penalty=2.0)(logits) == 1
    assert logits.tolist() == [1.0, 3.0, 2.0]
