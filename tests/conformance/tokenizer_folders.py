"""Folders of a tiny model with whatever tokenizer files a row needs, and the tokenizer that a bundle would get of them.

folder = write_folder(path, {"tokenizer.json": byte_level(), "tokenizer_config.json": {...}}, model_type="llama")
bundled = Bundled(folder)
bundled.encode("text"); bundled.chat([...]); bundled.stops; bundled.warnings
"""

import dataclasses
import functools
import io
import json
import tempfile
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import sentencepiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from shadowattn.converter.checkpoint import Checkpoint, TokenizerFiles
from shadowattn.converter.formats import open_checkpoint
from shadowattn.converter.text_grid import TEXTS
from shadowattn.converter.tokens import KnownTokens, known_tokens, readable_tokenizer
from shadowattn.runtime.text.chat import ChatTemplate, Conversation
from shadowattn.runtime.text.tokenizer import BundleTokenizer

HIDDEN = 8
VOCAB = 420
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello,  world!"},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "1234 na\u00efve \U0001f600?"},
]
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|pad|>")
CONFIG = "tokenizer_config.json"
CHAT = {"eos_token": "<|im_end|>", "chat_template": CHATML, "tokenizer_class": "PreTrainedTokenizerFast"}
_ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "mistral": "MistralForCausalLM"}


@functools.cache
def byte_level(vocab_size: int = 400) -> str:
    """tokenizer.json of a byte-level BPE that knows no special token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([*TEXTS, __doc__, " ".join(TEXTS)], trainer)
    return str(tokenizer.to_str())


def added(content: str, special: bool = True, **flags: bool) -> dict[str, Any]:
    """A token as tokenizer_config.json describes it."""
    return {"content": content, "lstrip": False, "rstrip": False, "single_word": False, "normalized": False} | {
        "special": special,
        **flags,
    }


def decoder(*tokens: dict[str, Any], first: int = 400) -> dict[str, Any]:
    return {str(first + i): token for i, token in enumerate(tokens)}


def json_with(*tokens: str, **changes: Any) -> str:
    """tokenizer.json that names special tokens itself."""
    tokenizer = Tokenizer.from_str(byte_level())
    tokenizer.add_special_tokens(list(tokens))
    return json.dumps(json.loads(tokenizer.to_str()) | changes)


def sentencepiece_model(kind: str, **options: Any) -> bytes:
    """tokenizer.model, trained on the grid's texts."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*TEXTS, *(" ".join(TEXTS),) * 3]),
        model_writer=model,
        model_type=kind,
        vocab_size=400,
        hard_vocab_limit=False,
        byte_fallback=True,
        minloglevel=2,
        **{"remove_extra_whitespaces": False, "normalization_rule_name": "identity", **options},
    )
    return model.getvalue()


THREE = decoder(*map(added, SPECIAL))


@functools.cache
def sentencepiece_json() -> str:
    """tokenizer.json of such a model, as transformers converts it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tokenizer.model").write_bytes(sentencepiece_model("bpe"))
        return str(PreTrainedTokenizerFast.from_pretrained(folder).backend_tokenizer.to_str())


def reference(folder: Path) -> Any:
    """The folder's tokenizer by transformers."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def texts(tokenizer: Any) -> list[str]:
    """Ordinary ones, and every added token where it could be cut or swallow its neighbours."""
    special = [token.content for token in tokenizer.added_tokens_decoder.values()]
    return [*TEXTS, *(f"x {token} y{token}z\n{token}" for token in special), "".join(special)]


def write_folder(
    folder: Path, files: Mapping[str, Any], *, model_type: str = "llama", vocab: int = VOCAB, **config: Any
) -> Path:
    """files: name -> text, bytes, or what is to be JSON. config: changes of config.json, None leaves one out."""
    folder.mkdir(parents=True)
    facts = {
        "architectures": [_ARCHITECTURES[model_type]],
        "model_type": model_type,
        "vocab_size": vocab,
        "hidden_size": HIDDEN,
        "intermediate_size": HIDDEN,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 64,
        "tie_word_embeddings": True,
        "rope_theta": 10000.0,
    } | config
    (folder / "config.json").write_text(json.dumps({key: value for key, value in facts.items() if value is not None}))
    safetensors.numpy.save_file(weights(vocab, model_type), folder / "model.safetensors")
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            file.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), "utf-8")
    return folder


def weights(vocab: int, model_type: str = "llama") -> dict[str, np.ndarray]:
    """Random weights of one layer, tied."""
    rng = np.random.default_rng(3)
    square = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
    square += ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    layer = "model.layers.0"
    made = {f"{layer}.{name}.weight": rng.normal(size=(HIDDEN, HIDDEN)) for name in square}
    made |= {f"{layer}.{name}.weight": np.ones(HIDDEN) for name in ("input_layernorm", "post_attention_layernorm")}
    if model_type == "qwen2":
        made |= {f"{layer}.{name}.bias": np.zeros(HIDDEN) for name in square[:3]}
    made |= {"model.norm.weight": np.ones(HIDDEN), "model.embed_tokens.weight": rng.normal(size=(vocab, HIDDEN))}
    return {name: weight.astype(np.float32) for name, weight in made.items()}


@dataclasses.dataclass
class Bundled:
    """What a bundle of the model in `path` would have of a tokenizer, used as the runtime uses it."""

    path: Path

    @functools.cached_property
    def checkpoint(self) -> Checkpoint:
        return open_checkpoint(self.path)

    @functools.cached_property
    def files(self) -> TokenizerFiles:
        files = readable_tokenizer(self.checkpoint, may_be_missing=False)
        assert files is not None
        return files

    @functools.cached_property
    def tokens(self) -> KnownTokens:
        return known_tokens(self.checkpoint, self.files, int(self.checkpoint.config["vocab_size"]))

    @property
    def warnings(self) -> tuple[str, ...]:
        """All that a conversion would say of tokens."""
        return (*self.checkpoint.warnings, *self.files.warnings, *self.tokens.warnings)

    @functools.cached_property
    def tokenizer(self) -> BundleTokenizer:
        facts = types.SimpleNamespace(
            stop_token_ids=self.tokens.stops,
            special_tokens=self.files.special_tokens,
            bos_token_id=self.tokens.bos,
            chat_adds_bos=self.files.chat_adds_bos,
        )
        return BundleTokenizer(Tokenizer.from_str(self.files.json), types.SimpleNamespace(tokenizer=facts))

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Token ids of the prompt for the next answer."""
        assert self.files.chat_template is not None
        template = ChatTemplate(self.files.chat_template, self.files.special_tokens)
        conversation = Conversation(template, self.tokenizer)
        conversation.messages = [dict(message) for message in messages[:-1]]
        return conversation.ask(messages[-1]["content"])
