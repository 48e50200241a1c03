"""What `make accuracy` measures: sections, each a command line of `shadowattn eval`, and the parts they are run in."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shadowattn.runtime.evaluate.options import EvalOptions
from shadowattn.runtime.session.modes import MODES

_USUAL_LENGTHS = (1000, 2000, 4000, 8000)


@dataclasses.dataclass(frozen=True)
class Section:
    """A command line and its tables. split: the option whose values are computed one at a time."""

    name: str
    title: str
    options: EvalOptions
    split: str
    bundle: Path

    def parts(self) -> "list[Part]":
        """In the order of the tables' rows."""
        found = []
        for value in getattr(self.options, self.split):
            label = Path(value).stem if self.split == "texts" else str(value).replace(":", "_")
            change: dict[str, Any] = {self.split: (value,)}
            options = dataclasses.replace(self.options, **change)
            found.append(Part(f"{self.name}_{label}", options, self.bundle))
        return found


@dataclasses.dataclass(frozen=True)
class Part:
    """What is computed and stored at once."""

    name: str
    options: EvalOptions
    bundle: Path

    def cost(self) -> float:
        """About proportional to the time it takes: tokens, which cost more the longer the prompt is."""
        options = self.options
        work = 0.0
        if "estimate" in options.tasks:
            work += 2 * _cost(options.window or 2048, options.window or 2048)
        if {"perplexity", "heads"} & set(options.tasks):
            work += len(options.texts) * _cost(options.max_tokens, options.window or 2048)
        for length in (options.needle_lengths or _USUAL_LENGTHS) if "needle" in options.tasks else ():
            work += _cost(length * len(options.needle_depths) * options.needles, length)
        if "greedy" in options.tasks:
            prefill = options.prompts * options.prompt_tokens
            decode = 10 * options.prompts * options.continue_tokens  # one at a time
            work += _cost(prefill + decode, options.prompt_tokens)
        return work * len(options.variants())


def _cost(tokens: int, length: int) -> float:
    return tokens * (1 + length / 4000)


# --- what is measured ---


@dataclasses.dataclass(frozen=True)
class Bundles:
    """int8: the product's. float32: the same model without the noise of INT8 weights, which shows what attention alone
    does; None: left out."""

    int8: Path
    float32: Path | None = None


def full_sections(files: Sequence[str], session: Mapping[str, Any], bundles: Bundles) -> list[Section]:
    """docs/figures/accuracy.md. files: the held-out texts; needles and heads want prose."""
    common: dict[str, Any] = {"texts": tuple(files), "session": session, "keep_ratios": ("auto",)}
    prose = common | {"texts": tuple(file for file in files if "python" not in Path(file).stem) or tuple(files)}
    ours = ("shadow", "shadow@0.1", "shadow@0.05", "shadow@0.02")
    others: tuple[str, ...] = ("shadow:uncompensated@0.05", "shadow_paper@0.2", "shadow_paper@0.1", "shadow_paper@0.05")
    others += ("float_estimate@0.2", "float_estimate@0.05", "block_sparse@0.2", "block_sparse@0.05")
    few = ("int8", *ours, "shadow_paper@0.2")
    plain = EvalOptions(modes=("int8", "npu_full", *ours, *others), window=2048, max_tokens=8192, **common)
    short, long = (EvalOptions(modes=few, window=window, max_tokens=8192, **common) for window in (2048, 8192))
    needle = EvalOptions(
        modes=few, tasks=("needle",), needle_lengths=_USUAL_LENGTHS, needle_depths=(0.2, 0.7), **prose
    )  # fmt: skip
    greedy = EvalOptions(
        modes=("int8", "npu_full", *ours, "shadow_paper@0.2", "block_sparse@0.2"), tasks=("greedy",), prompts=10,
        prompt_tokens=1000, **prose,
    )  # fmt: skip
    heads = EvalOptions(
        modes=("shadow@0.1", "shadow@0.05", "shadow_paper@0.2"), tasks=("heads",), window=2048, max_tokens=4096, **prose
    )
    estimate = EvalOptions(
        tasks=("estimate",), window=2048, max_tokens=2048, texts=common["texts"], session=session
    )  # fmt: skip
    found = [
        Section("perplexity_2048", "Perplexity, windows of 2,048 tokens", plain, "texts", bundles.int8),
        Section("perplexity_8192", "Perplexity, windows of 8,192 tokens", long, "texts", bundles.int8),
        Section("needle", "Needles", needle, "needle_lengths", bundles.int8),
        Section("greedy", "Greedy continuations", greedy, "texts", bundles.int8),
        Section("heads", "Layers and heads", heads, "texts", bundles.int8),
        Section("estimate", "Static INT8 estimates", estimate, "texts", bundles.int8),
    ]
    if bundles.float32 is not None:
        without = "without the noise of INT8 weights"
        few_needles = dataclasses.replace(needle, modes=few[:4], needle_lengths=_USUAL_LENGTHS[:3])
        found.append(
            Section("float32_2048", f"Perplexity, windows of 2,048 tokens, {without}", short, "texts", bundles.float32)
        )
        found.append(Section("float32_needle", f"Needles, {without}", few_needles, "needle_lengths", bundles.float32))
    return found


def short_sections(files: Sequence[str], session: Mapping[str, Any], bundle: Path) -> list[Section]:
    """The same form, in a few minutes: whether it all works, and which mode is ahead."""
    text: dict[str, Any] = {"texts": (files[0],), "session": session, "keep_ratios": (0.1, 0.05)}
    plain = EvalOptions(modes=(*MODES, "shadow:uncompensated"), window=1024, max_tokens=2048, **text)
    needle = EvalOptions(
        modes=("int8", "shadow"), tasks=("needle",), needle_lengths=(1000,), needle_depths=(0.3, 0.7), needles=2, **text
    )
    greedy = EvalOptions(
        modes=("int8", "shadow"), tasks=("greedy",), prompts=3, prompt_tokens=1000, continue_tokens=16, **text
    )
    heads = EvalOptions(modes=("shadow@0.05",), tasks=("heads",), window=512, max_tokens=512, **text)
    return [
        Section("perplexity_1024", "Perplexity, windows of 1,024 tokens", plain, "texts", bundle),
        Section("needle", "Needles", needle, "needle_lengths", bundle),
        Section("greedy", "Greedy continuations", greedy, "texts", bundle),
        Section("heads", "Layers and heads", heads, "texts", bundle),
        Section("estimate", "Static INT8 estimates", dataclasses.replace(heads, tasks=("estimate",)), "texts", bundle),
    ]
