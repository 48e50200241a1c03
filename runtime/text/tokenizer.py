"""The tokenizer that came with a bundle: text to token ids and back, and which tokens end an answer."""

from collections.abc import Sequence
from pathlib import Path

import tokenizers

from shadowattn.models.bundle import Manifest
from shadowattn.runtime.session.prompts import check_text, token_list

_LARGEST_ID = 2**32 - 1  # of the tokenizers library


class BundleTokenizer:
    """tokenizer.json of a bundle, with what its manifest says about special tokens.

    stop_token_ids: every token that ends an answer. special_tokens: the strings that a chat template may name.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, manifest: Manifest) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self.stop_token_ids = frozenset(manifest.tokenizer.stop_token_ids)
        self.special_tokens = dict(manifest.tokenizer.special_tokens)
        self._chat_bos = manifest.tokenizer.bos_token_id if manifest.tokenizer.chat_adds_bos else None

    @classmethod
    def open(cls, bundle: Path, manifest: Manifest) -> "BundleTokenizer":
        """Reads the bundle's tokenizer. Raises ValueError if it has none or the file cannot be understood."""
        if manifest.tokenizer.file is None:
            raise ValueError(
                f"{bundle}: the bundle has no tokenizer, so it takes token ids only; convert again from a model "
                "directory that holds tokenizer.json, or use shadowattn.runtime.Session with token ids"
            )
        file = bundle / manifest.tokenizer.file
        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises plain Exception
            raise ValueError(f"{file}: not a tokenizer the tokenizers library reads ({error}); convert again") from None
        return cls(tokenizer, manifest)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text. add_special_tokens: whether tokenizer.json adds its own (a BOS, say).

        Raises ValueError for what is no text.
        """
        return list(self._tokenizer.encode(check_text(text), add_special_tokens=add_special_tokens).ids)

    def encode_chat(self, text: str) -> list[int]:
        """Token ids of a rendered chat template. It holds its special tokens already, but for a BOS that the model's
        makers have every text begin with."""
        if self._chat_bos is None:
            return self.encode(text, add_special_tokens=False)
        text = text.removeprefix(self.special_tokens.get("bos_token", ""))
        return [self._chat_bos, *self.encode(text, add_special_tokens=False)]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens left out. Bytes that are no whole UTF-8 character become U+FFFD.

        Ids of no token are left out too: an embedding may have more rows than the tokenizer has tokens. Raises
        ValueError for what can be no id.
        """
        ids = token_list(token_ids)
        for index, token in enumerate(ids):
            if not 0 <= token <= _LARGEST_ID:
                raise ValueError(f"token id {token} at index {index} is outside every vocabulary; give ids of tokens")
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))
