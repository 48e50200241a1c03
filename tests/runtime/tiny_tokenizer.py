"""Small tokenizers for tests: byte-level (as GPT-2, Llama 3, Qwen have) and SentencePiece-like with byte fallback."""

from collections.abc import Sequence

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors

from shadowattn.models.bundle import Tokenizer as TokenizerInfo

SPECIAL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def byte_level_tokenizer(extra: Sequence[str] = (), bos: bool = False) -> tokenizers.Tokenizer:
    """A token per byte, no merges; `extra` more vocabulary words (in byte-level spelling). bos: encode() adds <s>."""
    words = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {
        word: index for index, word in enumerate([*words, *(w for w in dict.fromkeys(extra) if w not in words)])
    }
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return tokenizer


def sentencepiece_tokenizer() -> tokenizers.Tokenizer:
    """Words with a leading U+2581, single letters, and byte tokens for the rest; decodes as Llama 2's file does."""
    words = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁Hello", "▁world", "▁and", "▁two"]
    words += [chr(code) for code in range(ord("!"), ord("~") + 1)]
    merges: list[tuple[str, str]] = []
    for word in ("▁Hello", "▁world", "▁and", "▁two"):
        for end in range(2, len(word) + 1):
            merges.append((word[: end - 1], word[end - 1]))
            words.append(word[:end])
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary, merges=list(dict.fromkeys(merges)), byte_fallback=True, fuse_unk=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(Regex("▁"), " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def bundle_tokenizer(chat_template: str | None = CHATML, stop: Sequence[str] = ("</s>", "<|im_end|>")) -> TokenizerInfo:
    """The manifest's entry for byte_level_tokenizer()."""
    template = None if chat_template is None else "chat_template.jinja"
    stop_ids = tuple(SPECIAL.index(token) for token in stop)
    return TokenizerInfo("tokenizer.json", template, 0, stop_ids, {"bos_token": "<s>", "eos_token": "</s>"})
