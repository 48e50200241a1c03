"""Chat templates as Hugging Face renders them, and conversations."""

from pathlib import Path

import pytest
from tiny_bundle import write_tiny_bundle
from tiny_tokenizer import CHATML, bundle_tokenizer, byte_level_tokenizer

from shadowattn.runtime.text.chat import ChatTemplate, Conversation
from shadowattn.runtime.text.tokenizer import BundleTokenizer

USER = [{"role": "user", "content": "Hi"}]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def test_chatml() -> None:
    template = ChatTemplate(CHATML, TOKENS)
    messages = [{"role": "system", "content": "Be brief."}, *USER]
    assert template.render(messages) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert template.render(USER, add_generation_prompt=False).endswith("<|im_end|>\n")


def test_blocks_are_trimmed_as_hugging_face_does() -> None:
    loop = "{% for m in messages %}\n    {% if true %}\n[{{ m.content }}]\n    {% endif %}\n{% endfor %}\n"
    source = "{{ bos_token }}\n" + loop
    assert ChatTemplate(source, TOKENS).render(USER) == "<s>\n[Hi]\n"


def test_raise_exception_becomes_a_clear_error() -> None:
    source = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}ok"
    template = ChatTemplate(source, {})
    assert template.render(USER) == "ok"
    with pytest.raises(ValueError, match="refused the conversation: System role not supported"):
        template.render([{"role": "system", "content": "x"}, *USER])


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ messages | tojson }}", '[{"role": "user", "content": "Hi"}]'),
        ("{{ {'a': '<ä>'} | tojson }}", '{"a": "<ä>"}'),
        ("{{ {'a': 1} | tojson(indent=2) }}", '{\n  "a": 1\n}'),
        ("{% for i in [1, 2, 3] %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "13"),
        ("{% generation %}x{% endgeneration %}", "x"),
        ("{{ strftime_now('%Y') | length }}", "4"),
        ("{{ tools is none }}", "True"),
        ("{% set ns = namespace(a=1) %}{% set ns.a = 2 %}{{ ns.a }}", "2"),
    ],
)
def test_what_templates_expect(source: str, text: str) -> None:
    assert ChatTemplate(source, {}).render(USER) == text


def test_the_sandbox_refuses_to_touch_python() -> None:
    for source in ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ messages.append(1) }}"):
        with pytest.raises(ValueError, match="refused the conversation"):
            ChatTemplate(source, {}).render(USER)


def test_a_broken_template_names_file_and_line() -> None:
    with pytest.raises(ValueError, match=r"chat\.jinja, line 2: .*; correct it and convert again"):
        ChatTemplate("ok\n{% if %}", {}, "chat.jinja")
    with pytest.raises(ValueError, match=r"chat\.jinja: the chat template failed"):
        ChatTemplate("{{ 1 + 'a' }}", {}, "chat.jinja").render(USER)


def test_a_bundle_without_template_names_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no chat template .* leave out --chat"):
        ChatTemplate.open(tmp_path, write_tiny_bundle(tmp_path))


def conversation(tmp_path: Path, source: str = CHATML, system: str | None = None) -> Conversation:
    files = {"tokenizer.json": byte_level_tokenizer().to_str().encode(), "chat_template.jinja": source.encode()}
    manifest = write_tiny_bundle(tmp_path, vocab=300, tokenizer=bundle_tokenizer(), extra_files=files)
    return Conversation(ChatTemplate.open(tmp_path, manifest), BundleTokenizer.open(tmp_path, manifest), system)


def test_turns_share_their_prefix(tmp_path: Path) -> None:
    """So that a session prefills only what is new."""
    chat = conversation(tmp_path, system="Be brief.")
    first = chat.ask("Hi")
    chat.answer("Hello")
    second = chat.ask("Why?")
    assert second[: len(first)] == first
    assert len(second) > len(first)


def test_a_refused_or_taken_back_question_leaves_no_trace(tmp_path: Path) -> None:
    chat = conversation(tmp_path, "{% if messages | length > 1 %}{{ raise_exception('one turn') }}{% endif %}x")
    chat.ask("a")
    chat.answer("b")
    before = list(chat.messages)
    with pytest.raises(ValueError, match="one turn"):
        chat.ask("c")
    assert chat.messages == before
    chat.clear()
    chat.ask("d")
    chat.take_back()
    assert chat.messages == []


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ 1 / 0 }}", "ZeroDivisionError: division by zero"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "OverflowError: Range too big"),
        ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "RecursionError: maximum recursion depth"),
        ("{{ messages | tojson(indent=messages) }}", "TypeError: "),
        ("{{ strftime_now(3) }}", "TypeError: "),
    ],
)
def test_whatever_a_template_does_is_one_sentence(source: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r"chat\.jinja: the chat template failed \(.*\); correct it") as caught:
        ChatTemplate(source, {}, "chat.jinja").render(USER)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_special_tokens_in_a_message_become_those_tokens(tmp_path: Path) -> None:
    """As in Hugging Face's apply_chat_template; Conversation.ask() says so."""
    chat = conversation(tmp_path)
    plain = chat.ask("Hi")
    chat.clear()
    spoken = chat.ask("Hi<|im_end|>")
    assert len(spoken) == len(plain) + 1
