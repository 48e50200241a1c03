"""Asks a model for needles: what dense finds, and what a variant loses or gains. No prefix is put into its mouth."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shadowattn.models.bundle import Manifest
from shadowattn.runtime.evaluate.needle import Case, CaseBuilder, Encode, Filler
from shadowattn.runtime.evaluate.options import DENSE, EvalOptions, Variant
from shadowattn.runtime.evaluate.sessions import Advance, Opener, variant_columns
from shadowattn.runtime.evaluate.texts import EvalText
from shadowattn.runtime.session.session import Session
from shadowattn.runtime.text.chat import ChatTemplate, Conversation
from shadowattn.runtime.text.tokenizer import BundleTokenizer

ANSWER_TOKENS = 24
USUAL_LENGTHS = (1000, 2000, 4000, 8000)


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a variant said, and whether the needle's value is in it."""

    output: str
    found: bool


def fitting_lengths(options: EvalOptions, manifest: Manifest) -> tuple[int, ...]:
    """The prompt lengths asked for, or the usual ones that fit. Raises ValueError if one does not."""
    most = (options.session.get("max_length") or manifest.max_length) - ANSWER_TOKENS
    if options.needle_lengths is None:
        fitting = tuple(length for length in USUAL_LENGTHS if length <= most)
        if not fitting:
            raise ValueError(f"--needle_lengths: none of the usual ones fits {most:,} positions; give shorter ones")
        return fitting
    if max(options.needle_lengths) > most:
        raise ValueError(
            f"--needle_lengths: wanted at most {most:,} (the positions of a session, less {ANSWER_TOKENS} for the "
            f"answer), got {max(options.needle_lengths):,}; use shorter ones or convert with a larger --max_length"
        )
    return options.needle_lengths


def build_cases(
    bundle: Path, manifest: Manifest, texts: Sequence[EvalText], options: EvalOptions
) -> dict[int, list[Case]]:
    """Length -> its cases. Raises ValueError for a bundle without tokenizer, or texts that do not do."""
    if manifest.tokenizer.file is None:
        raise ValueError(f"{bundle}: the bundle has no tokenizer, so --tasks=needle cannot be done; leave it out")
    tokenizer = BundleTokenizer.open(bundle, manifest)
    fillers = [Filler.of(text.name, text.prose, tokenizer.encode) for text in texts if text.prose is not None]
    builder = CaseBuilder(fillers, _asker(bundle, manifest, tokenizer), options.seed)
    lengths = fitting_lengths(options, manifest)
    return {length: builder.cases(length, options.needle_depths, options.needles) for length in lengths}


def _asker(bundle: Path, manifest: Manifest, tokenizer: BundleTokenizer) -> Encode:
    """Prompt -> token ids, as a chat if the model is made for that."""
    if manifest.tokenizer.chat_template is None:
        return tokenizer.encode
    template = ChatTemplate.open(bundle, manifest)
    return lambda prompt: Conversation(template, tokenizer).ask(prompt)


def needle_rows(
    opener: Opener,
    variants: Sequence[Variant],
    cases: Mapping[int, Sequence[Case]],
    tokenizer: BundleTokenizer,
    advance: Advance,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(a row per variant and length, an entry per case). `advance` counts prompt tokens, once per variant."""
    rows = []
    entries = {length: [_entry(case) for case in own] for length, own in cases.items()}
    for variant, session in opener.each(tuple(variants)):
        for length, own in cases.items():
            session.reset_stats()
            for number, (case, entry) in enumerate(zip(own, entries[length], strict=True), 1):
                entry["answers"][variant.name] = dataclasses.asdict(_ask(session, tokenizer, case))
                advance(len(case.token_ids), f"{variant.name}, {length:,} tokens, needle {number} of {len(own)}")
            columns = {"task": "needle", "length": length} | variant_columns(variant, session.stats())
            rows.append(columns | _counts(entries[length], variant))
    return rows, [entry for own in entries.values() for entry in own]


def _ask(session: Session, tokenizer: BundleTokenizer, case: Case) -> Answer:
    session.reset()
    output = tokenizer.decode(
        list(session.generate(case.token_ids, ANSWER_TOKENS, temperature=0.0, repetition_penalty=1.0))
    )
    return Answer(output, case.needle.is_in(output))


def _entry(case: Case) -> dict[str, Any]:
    facts = {"text": case.text, "length": case.length, "prompt_tokens": len(case.token_ids), "depth": case.depth}
    return facts | dataclasses.asdict(case.needle) | {"answers": {}}


def _counts(entries: Sequence[Mapping[str, Any]], variant: Variant) -> dict[str, int]:
    """lost: dense found it and the variant did not; gained: the other way round."""
    pairs = [(entry["answers"][DENSE.name]["found"], entry["answers"][variant.name]["found"]) for entry in entries]
    return {
        "cases": len(pairs),
        "found_dense": sum(dense for dense, _ in pairs),
        "found": sum(found for _, found in pairs),
        "lost": sum(dense and not found for dense, found in pairs),
        "gained": sum(found and not dense for dense, found in pairs),
    }
