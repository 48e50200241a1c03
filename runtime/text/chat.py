"""Conversations: the model's own chat template, rendered as Hugging Face renders it."""

import datetime
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from shadowattn.models.bundle import Manifest
from shadowattn.runtime.text.tokenizer import BundleTokenizer

Message = dict[str, str]  # role (system, user, assistant) and content


class ChatTemplate:
    """A Jinja chat template. It came with a model from elsewhere, so it runs in a sandbox that changes nothing."""

    def __init__(self, source: str, special_tokens: Mapping[str, str], where: str = "chat template") -> None:
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _GenerationBlock]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        self._where = where
        self._special_tokens = dict(special_tokens)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise ValueError(f"{where}, line {error.lineno}: {error.message}; correct it and convert again") from None

    @classmethod
    def open(cls, bundle: Path, manifest: Manifest) -> "ChatTemplate":
        """Reads the bundle's template. Raises ValueError if it has none."""
        if manifest.tokenizer.chat_template is None:
            raise ValueError(
                f"{bundle}: the bundle has no chat template (the model is not made for chat); "
                "leave out --chat and --system and give the whole text with --prompt"
            )
        file = bundle / manifest.tokenizer.chat_template
        return cls(file.read_text("utf-8"), manifest.tokenizer.special_tokens, str(file))

    def render(self, messages: Iterable[Message], *, add_generation_prompt: bool = True) -> str:
        """The text of a conversation, by default up to where the assistant's next answer begins."""
        try:
            return self._template.render(
                messages=list(messages),
                add_generation_prompt=add_generation_prompt,
                tools=None,
                documents=None,
                **self._special_tokens,
            )
        except jinja2.TemplateError as error:
            reason = " ".join((error.message or type(error).__name__).split())
            raise ValueError(f"{self._where}: the chat template refused the conversation: {reason}") from None
        except Exception as error:  # a template is a program from elsewhere: it can fail in any way
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ValueError(
                f"{self._where}: the chat template failed ({reason}); correct it and convert again"
            ) from None


class Conversation:
    """The messages so far. Every turn renders the whole of it; the session's cache makes the common prefix free."""

    def __init__(self, template: ChatTemplate, tokenizer: BundleTokenizer, system: str | None = None) -> None:
        self._template = template
        self._tokenizer = tokenizer
        self.system = system
        self.messages: list[Message] = []
        self.clear()

    def clear(self) -> None:
        """Forgets every message but the system's."""
        self.messages = self._system_messages()

    def start_with(self, system: str | None) -> None:
        """Forgets every message and takes another system message. Raises ValueError, and changes nothing, if the
        template refuses it."""
        before, self.system = self.system, system
        try:
            self._encode([*self._system_messages(), {"role": "user", "content": "x"}])
        except ValueError:
            self.system = before
            raise
        self.clear()

    def ask(self, text: str) -> list[int]:
        """Adds the user's message; token ids of the prompt for the answer. A refused message is not kept.

        The template makes one text of all messages, so a special token's text in a message (`<|im_end|>`) becomes that
        token, as in Hugging Face's apply_chat_template: filter it out of messages you do not trust.
        """
        self.messages.append({"role": "user", "content": text})
        try:
            return self._encode(self.messages)
        except ValueError:
            self.messages.pop()
            raise

    def tokens_alone(self, text: str) -> int:
        """Tokens of the prompt, were this the first question."""
        return len(self._encode([*self._system_messages(), {"role": "user", "content": text}]))

    def answer(self, text: str) -> None:
        """Adds the assistant's answer to the last question."""
        self.messages.append({"role": "assistant", "content": text})

    def take_back(self) -> None:
        """Drops the last question, which got no answer."""
        self.messages.pop()

    def _system_messages(self) -> list[Message]:
        return [{"role": "system", "content": self.system}] if self.system else []

    def _encode(self, messages: list[Message]) -> list[int]:
        return self._tokenizer.encode_chat(self._template.render(messages))


class _GenerationBlock(jinja2.ext.Extension):
    """`{% generation %}`: marks the assistant's text for training; here it is only its content."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.datetime.now().strftime(form)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """Plain JSON: jinja2's own filter escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)
