"""What may be given as a prompt, and what is said about the rest."""

import collections
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from speaking import write_speaker

from shadowattn.runtime import Session
from shadowattn.runtime.session.prompts import token_list

IDS = [5, 90, 7, 96]
ARRAYS = [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64]


@pytest.mark.parametrize(
    "prompt",
    [
        IDS,
        tuple(IDS),
        iter(IDS),
        collections.deque(IDS),
        [np.int64(token) for token in IDS],
        [np.array(token) for token in IDS],
        [IDS],
        (tuple(IDS),),
        [np.array(IDS)],
        np.array([IDS]),
        np.array(IDS)[::1],
        np.array([5, 0, 90, 0, 7, 0, 96, 0])[::2],
        np.asfortranarray(np.array([IDS])),
        *(np.array(IDS, dtype) for dtype in ARRAYS),
        *(np.array([IDS], dtype) for dtype in ARRAYS),
    ],
    ids=lambda prompt: f"{type(prompt).__name__}{getattr(prompt, 'dtype', '')}{getattr(prompt, 'shape', '')}",
)
def test_token_ids_in_any_usual_form(prompt: Any) -> None:
    found = token_list(prompt)
    assert found == IDS
    assert {type(token) for token in found} == {int}


def test_tensors() -> None:
    import torch

    for prompt in (torch.tensor(IDS), torch.tensor([IDS]), list(torch.tensor(IDS)), [torch.tensor(IDS)]):
        assert token_list(prompt) == IDS
    with pytest.raises(ValueError, match="got a batch of 2 prompts"):
        token_list(torch.tensor([IDS, IDS]))
    with pytest.raises(ValueError, match="got a batch of 2 prompts"):
        token_list([torch.tensor(IDS), torch.tensor(IDS)])
    with pytest.raises(ValueError, match="token ids must be integers, got an array of float32"):
        token_list(torch.tensor([1.0]))
    with pytest.raises(ValueError, match="got Tensor: "):
        token_list(torch.tensor([1.0], dtype=torch.bfloat16))


BATCH = r"got a batch of 2 prompts( \(shape \[2, 4\]\))?; a session holds one; .* or open a session for each"
INTEGERS = "token ids must be integers, got "


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (np.array([IDS, IDS]), BATCH),
        ([IDS, IDS], BATCH),
        ([IDS, [1]], BATCH),
        ((np.array(IDS), np.array(IDS)), BATCH),
        (np.zeros((0, 4), int), "got a batch of 0 prompts"),
        (np.zeros((1, 1, 4), int), r"wanted a text, or token ids .*, got an array of shape \[1, 1, 4\]"),
        (np.array(5), r"wanted a text, or token ids .*, got an array of shape \[\]"),
        (np.int64(5), r"wanted a text, or token ids .*, got an array of shape \[\]"),
        (5, "wanted a text, or token ids .*, got int"),
        (None, "wanted a text, or token ids .*, got NoneType"),
        (
            {"input_ids": [IDS], "attention_mask": [[1] * 4]},
            "got dict with 'input_ids', 'attention_mask'; give its",
        ),
        (collections.UserDict(input_ids=IDS), "got UserDict with 'input_ids'"),
        (b"Hello", "got bytes; decode it to a str first"),
        (bytearray(b"Hello"), "got bytearray; decode it to a str first"),
        (np.array([1.0, 2.0], np.float32), INTEGERS + "an array of float32"),
        (np.array([True, False]), INTEGERS + "an array of bool; an attention mask is not wanted"),
        (np.array(["a"]), INTEGERS + "an array of <U1"),
        (np.array([1, None]), INTEGERS + "an array of object"),
        ([1, 2.0], INTEGERS + r"2\.0 at index 1"),
        ([1, np.float32(2)], INTEGERS + r".*2\.0.* at index 1"),
        ([1, True], INTEGERS + "True at index 1"),
        ([1, np.True_], INTEGERS + ".*True.* at index 1"),
        (["Hello", "world"], INTEGERS + "'Hello' at index 0; give a text as one str"),
        ([1, None], INTEGERS + "None at index 1"),
    ],
    ids=lambda part: str(part)[:40],
)
def test_what_is_not_a_prompt(tiny: Path, prompt: Any, message: str) -> None:
    with Session.open(tiny) as session:
        session.prefill([1, 2, 3])
        calls: list[Callable[[Any], object]] = [session.prefill, lambda ids: session.generate(ids, 5), session.score]
        for call in calls:
            with pytest.raises(ValueError, match=message):
                call(prompt)
        assert session.tokens == [1, 2, 3]


@pytest.mark.parametrize("empty", [[], (), np.array([], int), np.array([]), np.zeros((1, 0), int), [[]]], ids=repr)
def test_an_empty_prompt(tiny: Path, empty: Any) -> None:
    with Session.open(tiny) as session, pytest.raises(ValueError, match="the prompt is empty"):
        session.prefill(empty)


@pytest.mark.parametrize(
    "token", [1.0, "a", None, [5], [5, 6], np.array([5]), np.array([5, 6]), True, np.float32(5)], ids=repr
)
def test_decode_takes_one_token(tiny: Path, token: Any) -> None:
    said = r"decode takes one token id \(token ids must be integers, got .*\); prefill\(\) appends several, tokenizer\."
    with Session.open(tiny) as session:
        wanted = session.prefill([1, 2])
        session.rewind(1)
        with pytest.raises(ValueError, match=said):
            session.decode(token)
        for same in (np.int32(2), np.array(2), np.uint8(2)):
            assert np.allclose(session.decode(same), wanted, atol=0.05 * np.abs(wanted).max())
            session.rewind(1)


def test_texts_are_tokenized_with_a_bos_at_the_beginning_only(tmp_path: Path) -> None:
    write_speaker(tmp_path / "bos", bos=True)
    with Session.open(tmp_path / "bos", cache_type="f32") as session:
        hello = session.tokenizer.encode("Hello")
        assert hello[0] == 0
        wanted = session.prefill(hello)
        session.reset()
        assert np.array_equal(session.prefill("Hello"), wanted)
        assert session.tokens == hello
        session.prefill(", world")
        assert session.tokens == session.tokenizer.encode("Hello, world")
        assert list(session.generate("Hello", 3)) == list(session.generate(hello, 3))
        assert np.array_equal(session.score("Hello"), session.score(np.array([hello])))
