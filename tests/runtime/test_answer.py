"""One answer: stop tokens, the room in the context, Ctrl-C, times."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from tiny_tokenizer import SPECIAL, bundle_tokenizer, byte_level_tokenizer

from shadowattn.models.bundle import Manifest
from shadowattn.runtime.session.generation import CONTEXT_FULL, MAX_NEW_TOKENS, STOP_TOKEN
from shadowattn.runtime.text import answer as answers
from shadowattn.runtime.text.answer import Answer, AnswerStream, Sampling, check_prompt_fits
from shadowattn.runtime.text.tokenizer import BundleTokenizer

END = SPECIAL.index("<|im_end|>")


class ScriptedSession:
    """Says what it was told to and ends as a session does; an exception in the script is raised there."""

    max_length = 100
    stop_reason: str | None = None

    def __init__(self, script: Sequence[int | BaseException]) -> None:
        self.script = script
        self.asked: dict[str, Any] = {}

    def generate(self, token_ids: Sequence[int], max_new_tokens: int, **options: Any) -> Iterator[int]:
        self.asked = {"max_new_tokens": max_new_tokens, **options}
        room = self.max_length - len(token_ids) + 1
        for step in self.script[: min(max_new_tokens, room)]:
            if isinstance(step, BaseException):
                raise step
            if step in bundle_tokenizer().stop_token_ids:
                break
            yield step
        else:
            ended = MAX_NEW_TOKENS if max_new_tokens <= room else CONTEXT_FULL
            self.stop_reason = ended if len(self.script) >= min(max_new_tokens, room) else STOP_TOKEN
            return
        self.stop_reason = STOP_TOKEN


class FakeManifest:
    tokenizer = bundle_tokenizer()


@pytest.fixture
def tokenizer() -> BundleTokenizer:
    manifest: Manifest = FakeManifest()  # type: ignore[assignment]
    return BundleTokenizer(byte_level_tokenizer(), manifest)


def run(tokenizer: BundleTokenizer, script: Sequence[int | BaseException], **options: Any) -> tuple[Answer, list[str]]:
    shown: list[str] = []
    prompt = options.pop("prompt", [5] * 10)
    most = options.pop("max_new_tokens", 20)
    stream = AnswerStream(ScriptedSession(script), tokenizer, shown.append)
    return stream.run(prompt, most, Sampling(), continues_prompt=False, **options), shown


def test_stop_tokens_end_the_answer_and_are_not_shown(tokenizer: BundleTokenizer) -> None:
    ids = tokenizer.encode("yes")
    for stop in ("</s>", "<|im_end|>"):
        answer, shown = run(tokenizer, [*ids, SPECIAL.index(stop), *ids])
        assert (answer.text, "".join(shown), answer.stopped_by) == ("yes", "yes", STOP_TOKEN)
        assert list(answer.token_ids) == ids


def test_a_session_that_ends_by_itself_met_a_stop_token(tokenizer: BundleTokenizer) -> None:
    assert run(tokenizer, tokenizer.encode("ab"))[0].stopped_by == STOP_TOKEN


def test_max_new_tokens(tokenizer: BundleTokenizer) -> None:
    answer, _ = run(tokenizer, tokenizer.encode("abcdef"), max_new_tokens=3)
    assert (answer.text, answer.stopped_by) == ("abc", MAX_NEW_TOKENS)


def test_the_context_ends_the_answer(tokenizer: BundleTokenizer) -> None:
    answer, _ = run(tokenizer, tokenizer.encode("abcdefghijkl"), prompt=[5] * 90, max_new_tokens=50)
    assert (len(answer.token_ids), answer.stopped_by) == (11, CONTEXT_FULL)


def test_ctrl_c(tokenizer: BundleTokenizer) -> None:
    script: list[int | BaseException] = [*tokenizer.encode("ab"), KeyboardInterrupt()]
    answer, _ = run(tokenizer, script, on_interrupt="keep")
    assert (answer.text, answer.stopped_by) == ("ab", answers.INTERRUPTED)
    with pytest.raises(KeyboardInterrupt):
        run(tokenizer, script)


def test_times(tokenizer: BundleTokenizer) -> None:
    answer, _ = run(tokenizer, tokenizer.encode("abc"))
    assert answer.ttft is not None
    assert answer.tpot is not None
    assert run(tokenizer, [tokenizer.encode("a")[0]])[0].tpot is None
    assert run(tokenizer, [])[0].ttft is None


def test_sampling_reaches_the_session(tokenizer: BundleTokenizer) -> None:
    session = ScriptedSession([])
    sampling = Sampling(temperature=0.5, top_k=3, top_p=0.9, seed=1)
    AnswerStream(session, tokenizer, print).run([1], 5, sampling, continues_prompt=False)
    assert session.asked == {
        "max_new_tokens": 5, "temperature": 0.5, "top_k": 3, "top_p": 0.9, "seed": 1,
        "repetition_penalty": 1.0, "on_progress": None,
    }  # fmt: skip


def test_no_room_says_how_much_there_is_and_what_to_do() -> None:
    check_prompt_fits(100, 100)  # the first token of the answer needs no position
    with pytest.raises(ValueError, match=r"the prompt has 101 tokens, but this session holds 100; shorten"):
        check_prompt_fits(101, 100)
    with pytest.raises(ValueError, match="the prompt is empty"):
        check_prompt_fits(0, 1024)
