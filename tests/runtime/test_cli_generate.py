"""`shadowattn generate`: where prompts come from, streaming, chat, statistics, and what it refuses."""

import io
import json
import re
import sys
from pathlib import Path

import pytest
from cli_runner import run, run_process, write_speaking_bundle
from tiny_bundle import write_tiny_bundle
from tiny_tokenizer import byte_level_tokenizer

from shadowattn.runtime.executor.chunking import Chunk
from shadowattn.runtime.session.cached_tokens import CachedTokens
from shadowattn.runtime.session.session import Session

STATISTICS = re.compile(
    r"\[(\d+) prompt tokens(?: \((\d+) reused\))?(?:, TTFT [\d.]+ s)?, (\d+) new tokens(?:, TPOT [\d.]+ ms)?, "
    r"mean keep_ratio ([\d.]+)\]"
)


@pytest.fixture(scope="module")
def shared_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speaking_bundle(tmp_path_factory.mktemp("generate") / "tiny.bundle")


# --- what it refuses: none of it loads the model ---


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "wanted a bundle"),
        (["b", "two", "words"], "too many arguments: 'words' (usage: "),
        (["b", "two", "words"], "put a prompt of many words in quotes"),
        (["b", "-", "more"], "too many arguments: 'more'"),
        (["-m", "b", "-", "more"], "too many arguments: 'more'"),
        (["b", "--prompt=x", "-"], "wanted one prompt, got --prompt and -"),
        (["b", "--prompt=-", "-"], "wanted one prompt, got --prompt and -"),
        (["b", "words", "-p", "x"], "wanted one prompt, got --prompt and a prompt as argument"),
        (["b", "--prompt=x", f"--prompt_file={__file__}"], "wanted one prompt, got --prompt and --prompt_file"),
        (["b"], "wanted a prompt: --prompt=TEXT, --prompt_file=FILE, or -"),
        (["b", "--prompt=x", "--system=y"], "--system needs --chat"),
        (["b", "--prompt=x", "--keep_ratio=0"], "wanted auto or a number in (0, 1]"),
        (["b", "--prompt=x", "--keep_ratio=nan"], "wanted auto or a number in (0, 1]"),
        (["b", "--prompt=x", "--mode=fast"], "value should be one of <shadow|dense|int8|"),
        (["b", "--prompt=x", "--top_p=2"], "flag --top_p=2"),
        (["b", "--prompt=x", "--top_p=0"], "wanted a number in (0, 1]"),
        (["b", "--prompt=x", "--temperature=-1"], "flag --temperature=-1"),
        (["b", "--prompt=x", "--temp=nan"], "flag --temperature=nan: wanted a finite number"),
        (["b", "--prompt=x", "--temperature=inf"], "wanted a finite number"),
        (["b", "--prompt=x", "--max_skipped_mass=nan"], "wanted a finite number"),
        (["b", "--prompt=x", "--repetition_penalty=0"], "wanted a positive number"),
        (["b", "--prompt=x", "--max_new_tokens=0"], "0 is not a positive integer"),
        (["b", "--prompt=x", "--num_threads=0"], "0 is not a positive integer"),
        (["b", "--prompt=x", "--npu=gpu"], "--npu=gpu: wanted host, delegate:PATH"),
        (["b", "--prompt=x", "--require_npu"], "--npu=host: require_npu needs an NPU"),
        (["b", "--prompt=x", "--trace=x"], "--trace records the pipelined executor, which is not the default; add"),
        (["b", "--promt=x"], "unknown flag --promt, did you mean --prompt?"),
        (["b", "-promt=x"], "unknown flag -promt, did you mean --prompt?"),
        (["b", "-z"], "unknown flag -z; see"),
        (
            ["b", "-5 degrees"],
            "unknown flag -5 degrees; a word that begins with a dash and is no flag comes last, after --",
        ),
        (["b", "--max-new-token=5"], "unknown flag --max-new-token, did you mean --max_new_tokens?"),
        (["b", "--prompt=x", "--executor=turbo"], "value should be one of <fused|pipelined>"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], args: list[str], message: str) -> None:
    outcome = run(capsys, "generate", *args)
    assert outcome.code == 2
    assert message in outcome.error
    assert outcome.error.endswith("see `shadowattn generate --help`")


def test_no_bundle(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    outcome = run(capsys, "generate", tmp_path / "nowhere", "--prompt=x")
    assert (outcome.code, outcome.out) == (1, "")
    assert "nowhere: not a bundle, manifest.json is missing; make one with `shadowattn convert`" in outcome.error


def test_a_bundle_without_tokenizer(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "mute")
    outcome = run(capsys, "generate", tmp_path / "mute", "--prompt=x")
    assert outcome.code == 1
    assert "the bundle has no tokenizer, so it takes token ids only; convert again" in outcome.error


def test_a_chat_without_template(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bundle = write_speaking_bundle(tmp_path / "plain", chat_template=None)
    outcome = run(capsys, "generate", bundle, "--prompt=x", "--chat")
    assert outcome.code == 1
    assert "no chat template" in outcome.error


def test_prompt_files(capsys: pytest.CaptureFixture[str], shared_bundle: Path, tmp_path: Path) -> None:
    outcome = run(capsys, "generate", shared_bundle, "--prompt_file", tmp_path / "none.txt")
    assert (outcome.code, outcome.error) == (1, f"{tmp_path}/none.txt: No such file or directory")
    outcome = run(capsys, "generate", shared_bundle, "--prompt_file=")
    assert (outcome.code, outcome.error) == (1, "the name of a file is empty; give its path")
    (tmp_path / "latin1.txt").write_bytes(b"caf\xe9")
    for command, flag in (("eval", "--text"), ("bench", "--text"), ("bench", "--prompt_file"), ("calibrate", "--text")):
        outcome = run(capsys, command, shared_bundle, f"{flag}={tmp_path / 'latin1.txt'}")
        assert (outcome.code, "latin1.txt: not UTF-8 text (byte 3)" in outcome.error) == (1, True)
    outcome = run(capsys, "generate", shared_bundle, "--prompt_file", tmp_path / "latin1.txt")
    assert outcome.code == 1
    assert "latin1.txt: not UTF-8 text (byte 3)" in outcome.error


# --- with the delegate ---


def test_an_answer_streams_to_stdout_and_its_statistics_to_stderr(
    capsys: pytest.CaptureFixture[str], shared_bundle: Path
) -> None:
    outcome = run(capsys, "generate", shared_bundle, "--prompt=Hello", "--max_new_tokens=12", "--stats")
    assert outcome.code == 0
    found = STATISTICS.search(outcome.err)
    assert found, outcome.err
    assert found[1] == "5"
    assert float(found[4]) == 1.0  # below min_k everything is kept


@pytest.mark.arm
def test_the_text_is_what_the_session_says(capsys: pytest.CaptureFixture[str], shared_bundle: Path) -> None:
    prompt = byte_level_tokenizer().encode("Hello, world").ids
    with Session.open(shared_bundle) as session:
        wanted = list(session.generate(prompt, 20, temperature=1.5, seed=3))
    flags = ["--max_new_tokens=20", "--temperature=1.5", "--seed=3"]
    outcome = run(capsys, "generate", shared_bundle, "--prompt=Hello, world", "--json", *flags)
    report = json.loads(outcome.out)
    assert report["token_ids"] == wanted
    assert report["prompt_tokens"] == report["prefilled_tokens"] == len(prompt)
    plain = run(capsys, "generate", shared_bundle, "--prompt=Hello, world", *flags)
    assert plain.out == report["text"] + "\n"
    whole = byte_level_tokenizer().decode(wanted)
    assert plain.out[:-1] == whole.rstrip("\N{REPLACEMENT CHARACTER}")


def says_of_itself(bundle: Path, **facts: object) -> Path:
    """The bundle with another manifest."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(manifest | facts))
    return bundle


def test_tokens_are_drawn_as_the_bundle_says_unless_flags_say_otherwise(
    capsys: pytest.CaptureFixture[str], shared_bundle: Path, tmp_path: Path
) -> None:
    own = {"temperature": 1.5, "top_k": 40, "top_p": 0.9, "repetition_penalty": 1.7}
    plain = {"temperature": 1.5, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}
    bundle = says_of_itself(write_speaking_bundle(tmp_path / "drawn.bundle"), sampling=own)
    prompt = byte_level_tokenizer().encode("Hello, world").ids
    said = ["--prompt=Hello, world", "--json", "--max_new_tokens=20", "--seed=3"]
    for flags, settings in (
        ([], own),
        (["--temperature=0"], own | {"temperature": 0.0}),
        (["--top_k=0", "--top_p=1", "--repetition_penalty=1"], plain),
    ):
        with Session.open(bundle) as session:
            wanted = list(session.generate(prompt, 20, **settings, seed=3))
        assert json.loads(run(capsys, "generate", bundle, *said, *flags).out)["token_ids"] == wanted
    with Session.open(shared_bundle) as session:
        greedy = list(session.generate(prompt, 20))
    assert json.loads(run(capsys, "generate", shared_bundle, *said).out)["token_ids"] == greedy


def test_repetitions_become_rarer(tmp_path: Path) -> None:
    bundle = write_speaking_bundle(tmp_path / "tiny.bundle")
    prompt = byte_level_tokenizer().encode("Hello, world").ids
    with Session.open(bundle) as session:
        repeats, does_not = (list(session.generate(prompt, 40, repetition_penalty=p)) for p in (1.0, 1e6))
    assert len(set(does_not) | set(prompt)) - len(set(prompt)) == len(does_not)  # each is new
    assert len(set(repeats)) < len(repeats)


@pytest.mark.parametrize("args", [["-"], ["--prompt_file=-"]])
def test_standard_input(shared_bundle: Path, args: list[str]) -> None:
    outcome = run_process("generate", shared_bundle, *args, "--json", "--max_new_tokens=2", stdin="naïve 🙂".encode())
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["prompt_tokens"] == len("naïve 🙂".encode())


def test_the_chat_template_wraps_the_prompt(capsys: pytest.CaptureFixture[str], shared_bundle: Path) -> None:
    outcome = run(
        capsys, "generate", shared_bundle, "--chat", "--system=S", "--prompt=Hi", "--json", "--max_new_tokens=1"
    )
    text = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert json.loads(outcome.out)["prompt_tokens"] == len(byte_level_tokenizer().encode(text).ids)


@pytest.mark.parametrize("prompt", ["", " \n"])
def test_an_empty_prompt(capsys: pytest.CaptureFixture[str], shared_bundle: Path, prompt: str) -> None:
    outcome = run(capsys, "generate", shared_bundle, f"--prompt={prompt}")
    assert outcome.code == 1
    assert "the prompt is empty" in outcome.error


def test_a_prompt_that_is_too_long(capsys: pytest.CaptureFixture[str], shared_bundle: Path) -> None:
    outcome = run(capsys, "generate", shared_bundle, "--prompt=" + "x" * 300)
    assert outcome.code == 1
    assert "the prompt has 300 tokens, but this session holds 256; shorten" in outcome.error


def test_an_answer_that_fills_the_context_says_so(capsys: pytest.CaptureFixture[str], shared_bundle: Path) -> None:
    flags = ["--max_length=16", "--max_new_tokens=50", "--temperature=2", "--seed=1", "--json"]
    outcome = run(capsys, "generate", shared_bundle, "--prompt=Hello", *flags)
    report = json.loads(outcome.out)
    assert report["stopped_by"] == "context_full"
    assert "the answer was cut: the context is full (" in outcome.err


def test_without_torch_and_transformers(shared_bundle: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'litert_torch', 'shadowattn.converter'): sys.modules[name] = None\n"
        "from shadowattn.runtime import cli\n"
        "sys.exit(cli.main(['generate', sys.argv[1], '--chat', '--prompt=Hi', '--max_new_tokens=3']))\n"
    )
    outcome = run_process(shared_bundle, code=code)
    assert outcome.code == 0, outcome.err


def test_a_terminal_that_lacks_a_character(shared_bundle: Path) -> None:
    code = (
        "import os, sys\n"
        "from shadowattn.runtime import cli\n"
        "sys.exit(cli.main(['generate', sys.argv[1], '--prompt=Hello', '--temperature=3', '--seed=1']))\n"
    )
    outcome = run_process(shared_bundle, code=code, environ={"PYTHONIOENCODING": "ascii"})
    assert outcome.code == 0, outcome.err
    assert outcome.out.isascii()


def test_a_prompt_that_is_not_text(capsys: pytest.CaptureFixture[str], shared_bundle: Path) -> None:
    outcome = run(capsys, "generate", shared_bundle, "--prompt=caf\udce9")
    assert outcome.code == 1
    assert "--prompt: not UTF-8 text (character 3)" in outcome.error


def interrupt_decode(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Ctrl-C arrives once, in the decode step with that number."""
    real, calls = CachedTokens.step, iter(range(10**6))

    def step(cached: CachedTokens, chunk: Chunk, ids: list[int], wants_hidden: bool = False) -> object:
        if chunk.length == 1 and next(calls) == after:
            raise KeyboardInterrupt
        return real(cached, chunk, ids, wants_hidden)

    monkeypatch.setattr(CachedTokens, "step", step)


def test_ctrl_c_in_an_answer_ends_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, shared_bundle: Path
) -> None:
    interrupt_decode(monkeypatch, 2)
    outcome = run(capsys, "generate", shared_bundle, "--prompt=Hello", "--temperature=3", "--seed=1")
    assert outcome.code == 130
    assert outcome.err.strip() == "shadowattn: interrupted"


def test_ctrl_c_in_a_chat_ends_only_the_answer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, shared_bundle: Path, tmp_path: Path
) -> None:
    interrupt_decode(monkeypatch, 2)
    lines = iter(["Hello", "And now?"])

    def read_line(prompt: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", read_line)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "stdin", Terminal())
    outcome = run(capsys, "generate", shared_bundle, "--max_new_tokens=5", "--temperature=3", "--seed=1", "--stats")
    assert outcome.code == 0
    answers = STATISTICS.findall(outcome.err)
    assert [int(new_tokens) for _, _, new_tokens, _ in answers] == [3, 5]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("data", [b"naive", b"naive\n", b"naive\r\n", b"\xef\xbb\xbfnaive\n"])
def test_ends_of_prompt_files(
    capsys: pytest.CaptureFixture[str], shared_bundle: Path, tmp_path: Path, data: bytes
) -> None:
    path = tmp_path / "prompt.txt"
    path.write_bytes(data)
    outcome = run(capsys, "generate", shared_bundle, f"--prompt_file={path}", "--json", "-n", "1")
    assert json.loads(outcome.out)["prompt_tokens"] == len(b"naive")


def test_json_on_an_ascii_stdout(shared_bundle: Path) -> None:
    args = ("generate", shared_bundle, "Hello", "--temp=3", "--seed=1", "--json")
    plain = json.loads(run_process(*args).out)
    ascii_only = run_process(*args, environ={"PYTHONIOENCODING": "ascii"})
    assert ascii_only.out.isascii()
    assert json.loads(ascii_only.out)["text"] == plain["text"]
    assert not plain["text"].isascii()


@pytest.mark.parametrize(
    "args",
    [["{b}", "Hello"], ["-m", "{b}", "Hello"], ["--model={b}", "-p", "Hello"], ["{b}", "--prompt", "-"], ["{b}", "-"]],
    ids=str,
)
def test_ways_to_say_the_same(shared_bundle: Path, args: list[str]) -> None:
    words = [arg.replace("{b}", str(shared_bundle)) for arg in args]
    flags = ["-n", "4", "-t", "1", "--temp=2", "--seed", "1", "--json"]
    outcome = run_process("generate", *words, *flags, stdin=b"Hello")
    long = ["--max-new-tokens=4", "--num-threads=1", "--temperature=2", "--seed=1", "--json"]
    wanted = run_process("generate", shared_bundle, "--prompt=Hello", *long)
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["token_ids"] == json.loads(wanted.out)["token_ids"]


def test_what_litert_logs_is_shown_when_asked_for(shared_bundle: Path) -> None:
    line = "INFO: Created TensorFlow Lite XNNPACK delegate for CPU."
    quiet = run_process("generate", shared_bundle, "Hello", "-n", "1")
    assert quiet.err == "shadowattn: the answer was cut after 1 tokens; --max_new_tokens=2 lets it go on\n"
    assert line in run_process("generate", shared_bundle, "Hello", "-n", "1", "--verbosity=1").err
    for args in (["inspect", shared_bundle, "--estimates"], ["doctor"], ["eval", shared_bundle, "--max_tokens=256"]):
        outcome = run_process(*args)
        assert "INFO" not in outcome.err + outcome.out


def test_only_infos_are_kept_off_standard_error() -> None:
    """Whatever else is written meanwhile, by whatever thread."""
    code = (
        "import os\n"
        "from shadowattn.runtime.litert import interpreter\n"
        "apply = interpreter._apply_xnnpack_once\n"
        "def noisy():\n"
        "    apply()\n"
        "    os.write(2, b'WARNING: a\\nINFO: b\\nERROR: c\\nunfinished')\n"
        "interpreter._apply_xnnpack_once = noisy\n"
        "interpreter.keep_infos_off_stderr()\n"
        "os.write(2, b' line')\n"
    )
    outcome = run_process(code=code)
    assert (outcome.code, outcome.err) == (0, "WARNING: a\nERROR: c\nunfinished line")
