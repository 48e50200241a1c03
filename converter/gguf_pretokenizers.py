"""How llama.cpp splits text before BPE, by the name in `tokenizer.ggml.pre`, as the models' own tokenizer.json do it.

transformers knows some of the names only; without them numbers and spaces are cut differently than in training.
"""

import dataclasses
from typing import Any

from tokenizers import Regex, Tokenizer, pre_tokenizers

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", _GPT2.removesuffix(r"|\s+"), r"\p{N}+", r"[0-9][0-9][0-9]")


@dataclasses.dataclass(frozen=True)
class PreTokenizer:
    """splits: one regex after the other; none: those of GPT-2. digits: every digit alone, before all else."""

    splits: tuple[str, ...] = ()
    digits: bool = False
    ignore_merges: bool = False

    def apply(self, tokenizer: Tokenizer) -> None:
        """Makes `tokenizer` split this way."""
        steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if self.digits else []
        steps += [pre_tokenizers.Split(Regex(split), "isolated") for split in self.splits]
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=not self.splits))
        tokenizer.pre_tokenizer = steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)
        if self.ignore_merges:
            tokenizer.model.ignore_merges = True


_OF_NAMES = {
    ("gpt-2", "phi-2", "olmo", "mpt"): PreTokenizer(),
    ("default",): PreTokenizer(_DEFAULT),
    ("smollm", "starcoder", "refact", "command-r", "codeshell"): PreTokenizer(digits=True),
    ("llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral", "lfm2", "dbrx", "smaug-bpe"): PreTokenizer(
        (_LLAMA3,), ignore_merges=True
    ),
    ("qwen2", "stablelm2", "deepseek-r1-qwen", "hunyuan", "megrez", "kormo", "f2llmv2"): PreTokenizer((_QWEN2,)),
    ("tekken",): PreTokenizer((_TEKKEN,), ignore_merges=True),
}
KNOWN = {name: pre for names, pre in _OF_NAMES.items() for name in names}
