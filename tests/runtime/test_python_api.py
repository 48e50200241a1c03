"""What people write: shadowattn.open(), chat() and complete(), with stop strings, log-probabilities and seeds."""

import dataclasses
import inspect
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from speaking import write_speaker
from tiny_bundle import tiny_decoder, write_tiny_bundle
from tiny_tokenizer import SPECIAL, byte_level_tokenizer

import shadowattn
from shadowattn.models.bundle import read_manifest
from shadowattn.runtime.session.generation import Generation
from shadowattn.runtime.session.text_stream import TextStream

HELLO = [{"role": "user", "content": "Hello"}]
RENDERED = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
LETTERS = byte_level_tokenizer()


@pytest.fixture(scope="session")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle nobody may change."""
    path = tmp_path_factory.mktemp("speaker") / "bundle"
    write_speaker(path)
    return path


def free_text(path: Path, prompt: str, count: int = 60) -> str:
    """What the model says if nothing ends it."""
    with shadowattn.open(path) as session:
        return session.complete(prompt, count, stop_token_ids=()).read()


# --- the module ---


def test_open_is_a_session(speaker: Path) -> None:
    with shadowattn.open(str(speaker), keep_ratio=0.5, num_threads=1) as session:
        assert isinstance(session, shadowattn.Session)
        assert session.settings.keep_ratio == 0.5
    assert inspect.signature(shadowattn.open) == inspect.signature(shadowattn.Session.open)
    assert {"open", "Session", "CancelledError", "__version__"} <= set(dir(shadowattn))
    assert re.fullmatch(r"\d+\.\d+\.\d+", shadowattn.__version__)
    with pytest.raises(AttributeError, match=r"has no attribute 'Llama'; it has .*open"):
        shadowattn.Llama  # noqa: B018


def test_importing_it_loads_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import shadowattn; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name for name in done.stdout.split() if name.split(".")[0] not in sys.stdlib_module_names} == {"shadowattn"}


@pytest.mark.parametrize("kind", [shadowattn.Session, Generation, TextStream])
def test_everything_public_has_a_docstring(kind: type) -> None:
    undocumented = [name for name in dir(kind) if not name.startswith("_") and not inspect.getdoc(getattr(kind, name))]
    assert not undocumented


def test_a_path_that_is_not_a_bundle_says_how_to_make_one(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing", Path(__file__)):
        with pytest.raises(ValueError, match=r"not a bundle.* make one with `shadowattn convert`"):
            shadowattn.open(path)


def test_repr_says_model_mode_and_length(speaker: Path) -> None:
    with shadowattn.open(speaker, mode="dense", max_length=1000) as session:
        session.prefill("Hello")
        assert repr(session) == "<shadowattn Session of tiny: mode dense, keep_ratio 0.2, 5 of 1,000 tokens>"
        stream = session.complete("Hello", 3)
        assert repr(stream) == "<TextStream: 0 tokens, not ended; iterate it, or read() it>"
        stream.read()
        assert repr(stream) == "<TextStream: 3 tokens, max_new_tokens>"
    assert repr(session) == "<shadowattn Session of tiny: mode dense, keep_ratio 0.2, closed>"


# --- text in, text out ---


def test_complete_goes_on_with_a_text(speaker: Path) -> None:
    prompt = LETTERS.encode("Once upon").ids
    with shadowattn.open(speaker) as session:
        ids = list(session.generate(prompt, 40, stop_token_ids=()))
        stream = session.complete("Once upon", 40, stop_token_ids=())
        pieces = list(stream)
        assert stream.token_ids == ids
        assert stream.prompt_ids == prompt
        assert "".join(pieces) == stream.text
        whole = LETTERS.decode(ids, skip_special_tokens=True)
        assert whole.startswith(stream.text)
        assert set(whole[len(stream.text) :]) <= {"\ufffd"}, "only an unfinished character may be missing"
        assert all(pieces)
        assert session.stop_reason == stream.stop_reason == "max_new_tokens"
        assert list(stream) == []


def test_chat_uses_the_models_template(speaker: Path) -> None:
    with shadowattn.open(speaker) as session:
        stream = session.chat(HELLO, 5)
        assert stream.prompt_ids == LETTERS.encode(RENDERED, add_special_tokens=False).ids
        assert stream.prompt_ids[0] == SPECIAL.index("<|im_start|>")
        assert stream.read() == stream.text != ""
        assert session.tokenizer.decode(stream.token_ids).startswith(stream.text)


def test_the_next_turn_prefills_only_what_is_new(speaker: Path) -> None:
    seen: list[int] = []
    with shadowattn.open(speaker) as session:
        answer = session.chat(HELLO, 8, stop_token_ids=())
        first = len(answer.prompt_ids) + len(answer.read())
        messages = [*HELLO, {"role": "assistant", "content": answer.text}, {"role": "user", "content": "Go on"}]
        longer = session.chat(messages, 1, on_progress=lambda done, total: seen.append(total))
        next(longer, "")
        assert 0 < seen[-1] <= len(longer.prompt_ids) - first + 8


def test_the_model_may_end_an_answer(speaker: Path) -> None:
    """With a vocabulary of 260 and a high temperature a stop token comes soon."""
    with shadowattn.open(speaker) as session:
        stream = session.chat(HELLO, temperature=100.0, seed=1)
        stream.read()
        assert stream.stop_reason == session.stop_reason == "stop_token"
        assert not set(stream.token_ids) & set(session.manifest.tokenizer.stop_token_ids)


def test_an_answer_without_limit_fills_the_context(speaker: Path) -> None:
    with shadowattn.open(speaker, max_length=40) as session:
        stream = session.complete("Hello", stop_token_ids=())
        stream.read()
        assert stream.stop_reason == "context_full"
        assert len(stream.token_ids) == 36


def test_messages_may_be_any_mappings_and_are_not_changed(speaker: Path) -> None:
    message = {"role": "user", "content": "Hello", "name": "Ada"}
    with shadowattn.open(speaker) as session:
        assert session.chat(iter([message]), 1).prompt_ids == session.chat(HELLO, 1).prompt_ids
    assert message == {"role": "user", "content": "Hello", "name": "Ada"}


def test_two_streams_of_one_session(speaker: Path) -> None:
    with shadowattn.open(speaker) as session:
        first = session.complete("Hello", 50)
        next(first)
        session.complete("World", 5).read()
        with pytest.raises(RuntimeError, match=r"cache was changed while .*; finish one iteration"):
            first.read()


def test_a_stream_may_be_left(speaker: Path) -> None:
    with shadowattn.open(speaker) as session:
        stream = session.complete("Hello", 50)
        next(stream)
        stream.close()
        assert list(stream) == []
        assert stream.stop_reason is None
        assert session.tokens[: len(stream.prompt_ids)] == stream.prompt_ids


# --- how tokens are drawn ---


def test_seeds(speaker: Path) -> None:
    with shadowattn.open(speaker) as session:
        a, b, c = (session.complete("Hello", 20, temperature=2.0, seed=seed).read() for seed in (1, 1, 2))
    assert a == b
    assert a != c


def test_the_bundles_sampling_is_the_default(tmp_path: Path) -> None:
    write_speaker(tmp_path / "b")
    manifest = json.loads((tmp_path / "b/manifest.json").read_text())
    own = {"temperature": 1.5, "top_k": 5, "top_p": 0.9, "repetition_penalty": 1.3}
    (tmp_path / "b/manifest.json").write_text(json.dumps(manifest | {"sampling": own}))
    with shadowattn.open(tmp_path / "b") as session:
        drawn = [list(session.generate("Hello", 20, seed=3)), session.complete("Hello", 20, seed=3)]
        drawn[1].read()  # type: ignore[attr-defined]
        wanted = list(session.generate("Hello", 20, seed=3, **own))  # type: ignore[arg-type]
        assert drawn[0] == drawn[1].token_ids == wanted  # type: ignore[attr-defined]
        greedy = [list(session.generate("Hello", 20, temperature=0, repetition_penalty=1)) for _ in range(2)]
        assert greedy[0] == greedy[1] != wanted


def test_logprobs_are_those_of_the_model(speaker: Path) -> None:
    """Against the NumPy oracle in float64, whatever temperature the tokens are drawn with."""
    decoder = tiny_decoder(read_manifest(speaker))
    with shadowattn.open(speaker, keep_ratio=1.0, cache_type="f32") as session:
        for temperature in (0.0, 1.5):
            stream = session.complete(
                "Once", 12, temperature=temperature, seed=4, repetition_penalty=1.2, logprobs=True, stop_token_ids=()
            )
            stream.read()
            wanted = decoder.logprobs([*stream.prompt_ids, *stream.token_ids])[len(stream.prompt_ids) - 1 :]
            assert len(stream.logprobs) == len(stream.token_ids) == 12
            assert np.abs(np.array(stream.logprobs) - wanted).max() < 1e-4 * np.abs(wanted).max()
            assert all(type(value) is float and value < 0 for value in stream.logprobs)
        tokens = session.generate("Once", 2)
        next(tokens)
        with pytest.raises(ValueError, match="not asked for; pass logprobs=True"):
            tokens.logprobs  # noqa: B018


# --- stop strings ---


def test_a_stop_string_ends_the_answer_before_it(speaker: Path) -> None:
    whole = free_text(speaker, "Once upon")
    with shadowattn.open(speaker) as session:
        for start, length in ((3, 1), (7, 2), (11, 4)):
            stop = whole[start : start + length]
            stream = session.complete("Once upon", 60, stop_token_ids=(), stop_strings=[stop, "never said"])
            assert stream.read() == whole[: whole.index(stop)]
            assert stream.stop_reason == session.stop_reason == "stop_string"
            assert len(stream.token_ids) < 60
        stream = session.complete("Once upon", 60, stop_token_ids=(), stop_strings="never said")
        assert stream.read() == whole


def test_text_that_was_held_back_comes_at_the_end(speaker: Path) -> None:
    whole = free_text(speaker, "Once upon")
    with shadowattn.open(speaker) as session:
        stream = session.complete("Once upon", 60, stop_token_ids=(), stop_strings=[whole[-3:] + "!"])
        assert stream.read() == whole
        assert stream.stop_reason == "max_new_tokens"


# --- what is refused ---

BATCH = "got a batch of 2 .*; a session holds one; .* open a session for each"


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ("Hello", r"wanted the messages of a chat, such as \[\{'role': 'user', .*\}\], got str"),
        ({"role": "user", "content": "Hello"}, "wanted the messages of a chat, .* got dict"),
        (5, "wanted the messages of a chat, .* got int"),
        ([], "wanted the messages of a chat, .* got none"),
        (["Hello"], "wanted the messages of a chat, .* got str at index 0"),
        ([HELLO, HELLO], BATCH),
        ([*HELLO, {"role": "user"}], "got nothing for 'content' of the message at index 1; give a str"),
        ([{"content": "Hello"}], "got nothing for 'role' of the message at index 0"),
        ([{"role": "user", "content": None}], "got NoneType for 'content' of the message at index 0"),
        ([{"role": "user", "content": [{"type": "text", "text": "x"}]}], "got list for 'content' of the message at"),
        ([{"role": "user", "content": "\ud83d"}], "is half of a character; decode its bytes"),
    ],
    ids=repr,
)
def test_messages_that_are_not_a_chat(speaker: Path, messages: Any, message: str) -> None:
    with shadowattn.open(speaker) as session, pytest.raises(ValueError, match=message):
        session.chat(messages)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.complete(""), "the prompt is empty"),
        (lambda s: s.complete([1, 2]), r"wanted a text \(str\), got list; generate\(\) takes token ids"),
        (lambda s: s.complete(b"x"), r"wanted a text \(str\), got bytes"),
        (lambda s: s.complete("\ud83d!"), r"got '\\ud83d' at character 0, which is half of a character"),
        (
            lambda s: s.complete("x" * 1025),
            "1025 tokens do not fit: 0 of 1024 .*; shorten the text, or convert the model",
        ),
        (lambda s: s.complete("x", 0), "max_new_tokens must be positive, got 0"),
        (lambda s: s.complete("x", 2.5), r"max_new_tokens must be an integer, got 2\.5; None allows as many as fit"),
        (lambda s: s.complete("x", "9"), "max_new_tokens must be an integer, got '9'"),
        (lambda s: s.complete("x", temperature="1"), "temperature must be 0 .* got '1'"),
        (lambda s: s.complete("x", top_k=1.5), r"top_k must be 0 .* got 1\.5"),
        (lambda s: s.complete("x", top_p=True), "top_p must be in .* got True"),
        (lambda s: s.complete("x", seed=1.0), r"seed must be an integer that is not negative, got 1\.0"),
        (lambda s: s.complete("x", repetition_penalty="a"), "repetition_penalty must be positive .* got 'a'"),
        (lambda s: s.complete("x", logprobs=5), "logprobs must be True or False, got 5"),
        (lambda s: s.complete("x", stop_strings=""), "stop_strings must be a string or several, none of them empty"),
        (lambda s: s.complete("x", stop_strings=["a", 2]), "stop_strings must be .* got"),
        (lambda s: s.complete("x", stop_strings=7), "stop_strings must be .* got 7"),
        (lambda s: s.generate("x", stop_token_ids=2), r"stop_token_ids must be token ids, such as \[2\], got 2"),
        (lambda s: s.generate("x", stop_token_ids="a"), "stop_token_ids must be .*; texts are given as stop_strings"),
        (lambda s: s.generate("x", stop_token_ids=[260]), "token id 260 at index 0 is outside the vocabulary of 260"),
    ],
)
def test_impossible_arguments(speaker: Path, call: Callable[[shadowattn.Session], object], message: str) -> None:
    with shadowattn.open(speaker) as session:
        session.prefill("abc")
        with pytest.raises(ValueError, match=message):
            call(session)
        assert session.length == 3


def test_a_bundle_without_tokenizer(tiny: Path) -> None:
    with shadowattn.open(tiny) as session:
        calls: list[Callable[[], object]] = [
            lambda: session.tokenizer,
            lambda: session.complete("Hello"),
            lambda: session.prefill("Hello"),
            lambda: session.generate("Hello", 5),
            lambda: session.score("Hello"),
        ]
        for call in calls:
            with pytest.raises(ValueError, match="the bundle has no tokenizer, so it takes token ids only"):
                call()
        assert len(list(session.generate([1, 2, 3], 2, stop_token_ids=()))) == 2


def test_a_bundle_without_chat_template(tmp_path: Path) -> None:
    write_speaker(tmp_path / "b", chat_template=None)
    with shadowattn.open(tmp_path / "b") as session:
        with pytest.raises(
            ValueError, match=r"tiny: the bundle has no chat template .*; give the whole text to comple"
        ):
            session.chat(HELLO)
        assert session.complete("Hello", 3).read()


def test_a_template_that_refuses(tmp_path: Path) -> None:
    write_speaker(tmp_path / "b", chat_template="{{ raise_exception('System role not supported') }}")
    refused = "refused the conversation: System role not supported"
    with shadowattn.open(tmp_path / "b") as session, pytest.raises(ValueError, match=refused):
        session.chat(HELLO)


def test_the_tokenizer_of_a_replaced_bundle_is_not_taken(tmp_path: Path) -> None:
    write_speaker(tmp_path / "b")
    with shadowattn.open(tmp_path / "b") as session:
        shutil.rmtree(tmp_path / "b")
        write_tiny_bundle(tmp_path / "b")
        write_speaker(tmp_path / "b", bos=True)
        with pytest.raises(RuntimeError, match="the bundle was replaced while it was open"):
            session.complete("Hello")


def test_stats_are_there_for_who_wants_them(speaker: Path) -> None:
    with shadowattn.open(speaker) as session:
        session.complete("Hello", 3).read()
        assert dataclasses.asdict(session.stats())["rows"] > 0
