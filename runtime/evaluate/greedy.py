"""Greedy continuations of long prompts: how long a variant says what dense says.

Two measures. Free: both go on with their own tokens, so that one flip may change all that follows. Forced: the variant
decodes dense's tokens and is asked at each step which one it would have taken.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from shadowattn.runtime.evaluate.options import DENSE, Variant
from shadowattn.runtime.evaluate.sessions import Advance, Opener, variant_columns
from shadowattn.runtime.evaluate.texts import EvalText
from shadowattn.runtime.session.session import Session


@dataclasses.dataclass(frozen=True)
class Prompt:
    """Tokens cut from a text."""

    text: str
    start: int
    token_ids: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Continuation:
    """What a variant said after a prompt. forced: its choice after each of dense's tokens."""

    free: tuple[int, ...]
    forced: tuple[int, ...]


def cut_prompts(texts: Sequence[EvalText], count: int, length: int) -> list[Prompt]:
    """`count` prompts from one text after the other, at even distances from start to end of each."""
    prompts = []
    for index, text in enumerate(texts):
        own = len(range(index, count, len(texts)))
        room = len(text.evaluated) - length
        for i in range(own):
            start = room * i // max(own - 1, 1)
            prompts.append(Prompt(text.name, start, text.evaluated[start : start + length]))
    return prompts


def greedy_rows(
    opener: Opener, variants: Sequence[Variant], prompts: Sequence[Prompt], steps: int, advance: Advance
) -> list[dict[str, Any]]:
    """A row per variant, dense first. `advance` counts prompts, once per variant. Stop tokens stop nothing."""
    rows = []
    wanted: list[tuple[int, ...] | None] = [None] * len(prompts)
    for variant, session in opener.each(tuple(variants)):
        answers = []
        for i, prompt in enumerate(prompts):
            answers.append(continue_prompt(session, prompt.token_ids, steps, wanted[i]))
            if variant == DENSE:
                wanted[i] = answers[-1].free
            advance(1, f"{variant.name}, prompt {i + 1} of {len(prompts)}")
        columns = {"task": "greedy", "prompts": len(prompts), "prompt_tokens": len(prompts[0].token_ids)}
        references = [tokens for tokens in wanted if tokens is not None]
        rows.append(columns | variant_columns(variant, session.stats()) | agreement(references, answers))
    return rows


def continue_prompt(
    session: Session, prompt: Sequence[int], steps: int, reference: Sequence[int] | None
) -> Continuation:
    """`steps` greedy tokens; reference: dense's, None for dense itself. The prompt is prefilled once."""
    session.reset()
    logits = session.prefill(prompt)
    free = [int(logits.argmax())]
    while len(free) < steps:
        free.append(int(session.decode(free[-1]).argmax()))
    if reference is None:
        return Continuation(tuple(free), tuple(free))
    same = identical_prefix(reference, free)
    forced = free[: same + 1]  # up to the first flip both measures see the same tokens
    if same < steps - 1:
        session.rewind(len(prompt) + same)
        forced += [int(session.decode(token).argmax()) for token in reference[same:-1]]
    return Continuation(tuple(free), tuple(forced))


def identical_prefix(reference: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens are the same before the first that is not."""
    pairs = enumerate(zip(reference, other, strict=True))
    return next((i for i, (a, b) in pairs if a != b), len(reference))


def agreement(references: Sequence[Sequence[int]], answers: Sequence[Continuation]) -> dict[str, Any]:
    """Shares of identical tokens, position by position over all prompts, and the mean identical prefix."""
    wanted = np.array(references)
    free = np.array([answer.free for answer in answers])
    forced = np.array([answer.forced for answer in answers])
    prefixes = [identical_prefix(a, b) for a, b in zip(wanted.tolist(), free.tolist(), strict=True)]
    return {
        "continue_tokens": wanted.shape[1],
        "identical": float((wanted == free).mean()),
        "identical_prefix": float(np.mean(prefixes)),
        "identical_forced": float((wanted == forced).mean()),
        "identical_prefixes": prefixes,
    }
