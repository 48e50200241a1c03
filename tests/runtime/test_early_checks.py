"""Names, paths and flags are looked at before anything heavy is loaded: every line below fails without one of them."""

import json
import re
from pathlib import Path

import pytest
from cli_runner import run_process, write_speaking_bundle

HEAVY = (
    *("torch", "transformers", "litert_torch", "gguf", "safetensors", "ai_edge_litert", "tokenizers", "jinja2"),
    *("matplotlib", "huggingface_hub", "prompt_toolkit"),
)
PROGRAM = f"""
import contextlib, io, json, sys
for name in {HEAVY!r}: sys.modules[name] = None
from shadowattn.runtime import cli
done = []
for line in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(line)
    done.append([code, err.getvalue()])
print(json.dumps(done))
"""
NO_BUNDLE = "{t}/none: not a bundle, manifest.json is missing; make one with `shadowattn convert`"
NO_FILE = "{t}/none: No such file or directory"
IN_FOLDER = "wanted a file in a folder that exists, got '{t}/none/x'"
# command line -> exit code, what the error begins with; {t} is a folder, {t}/b a bundle, {t}/empty an empty folder
LINES = {
    **{
        f"{name} {{t}}/none": (1, NO_BUNDLE)
        for name in ("inspect", "bench", "eval", "calibrate", "profile", "schedule")
    },
    "generate {t}/none -p x": (1, NO_BUNDLE),
    "generate -m {t}/none x": (1, NO_BUNDLE),
    "generate {t}/empty -p x": (1, "{t}/empty: not a bundle"),
    "generate {t}/b --prompt_file={t}/none": (1, NO_FILE),
    "generate {t}/b --prompt_file={t}/empty": (1, "{t}/empty: Is a directory"),
    "generate {t}/b -p x --npu=delegate:{t}/none": (1, NO_FILE),
    "generate {t}/b -p x --npu=blobs:{t}/none": (1, NO_FILE),
    "generate {t}/b -p x --npu=host --profile={t}/none": (1, NO_FILE),
    "generate {t}/b -p x --executor=pipelined --trace={t}/none/x": (2, "--trace: " + IN_FOLDER),
    "generate {t}/b -p x --npu=gpu": (2, "--npu=gpu: wanted host"),
    "bench {t}/b --text={t}/none": (1, NO_FILE),
    "bench {t}/b --prompt_file={t}/none": (1, NO_FILE),
    "eval {t}/b --text={t}/x.txt,{t}/none": (1, NO_FILE),
    "eval {t}/b --report={t}/none/x": (2, "--report: " + IN_FOLDER),
    "eval {t}/b --tasks=speed": (2, "--tasks: wanted some of"),
    "calibrate {t}/b --text={t}/none": (1, NO_FILE),
    "calibrate {t}/b --output={t}/none/x": (2, "--output: " + IN_FOLDER),
    "calibrate {t}/b --tokens=0": (2, "--tokens: wanted at least 1"),
    "profile {t}/b --output={t}/none/x": (2, "--output: " + IN_FOLDER),
    "profile {t}/b --text={t}/none": (1, NO_FILE),
    "profile {t}/b --kv_lens=9999": (1, "cache lengths must be from 16 (a chunk) to 256"),
    "profile {t}/b --npu=gpu": (2, "--npu=gpu: wanted host"),
    "schedule {t}/b --png={t}/none/x": (2, "--png: " + IN_FOLDER),
    "schedule {t}/b --kv_len=9999": (1, "--kv_len: wanted 16 (a chunk) to 256"),
    "schedule {t}/b --profile={t}/none": (1, NO_FILE),
    "benchmark_model --graph={t}/none": (1, "{t}/none: there is no such file; --graph wants"),
    "benchmark_model --graph={t}/b --input_layer=a --input_layer_shape=1 --input_layer_value_files=a:{t}/none": (
        *(1, NO_FILE),
    ),
    "convert {t}/none -o {t}/new": (1, "{t}/none: no such model; wanted a Hugging Face directory"),
    "convert {t}/x.txt -o {t}/new": (1, "{t}/x.txt: not a GGUF file (it starts with b'some')"),
    "convert {t}/empty -o {t}/new": (1, "{t}/empty: config.json is missing"),
    "convert {t}/b -o {t}/new": (1, "{t}/b: this is a bundle already"),
    "convert {t}/model.gguf -o {t}/b": (1, "{t}/b: already exists; choose another output or pass --overwrite"),
    "convert {t}/model.gguf -o {t}/none/new": (1, "{t}/none/new: the folder {t}/none does not exist; create it first"),
    "convert {t}/model.gguf -o {t}/x.txt --overwrite": (1, "{t}/x.txt: exists and is not a bundle"),
    "convert {t}/model.gguf -o {t}/new --calibration_text={t}/none": (1, "--calibration_text: {t}/none cannot be read"),
    "convert {t}/model.gguf -o {t}/new --keep_ratio=7": (2, "--keep_ratio: wanted a number in (0, 1]"),
    "convert {t}/model.gguf -o {t}/new --max_length=0": (2, "flag --max_length=0"),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Of every line, with {t} again for the folder; one process runs them all."""
    folder = tmp_path_factory.mktemp("early")
    write_speaking_bundle(folder / "b")
    (folder / "empty").mkdir()
    (folder / "x.txt").write_text("some text")
    (folder / "model.gguf").write_bytes(b"GGUF and no more")
    lines = [line.replace("{t}", str(folder)).split() for line in LINES]
    outcome = run_process(code=PROGRAM, stdin=json.dumps(lines).encode())
    assert outcome.code == 0, outcome.err
    done = [(code, text.replace(str(folder), "{t}")) for code, text in json.loads(outcome.out)]
    return dict(zip(LINES, done, strict=True))


@pytest.mark.parametrize("line", LINES)
def test_nothing_heavy_is_loaded(outcomes: dict[str, tuple[int, str]], line: str) -> None:
    code, text = outcomes[line]
    wanted_code, sentence = LINES[line]
    assert text.startswith(f"shadowattn: error: {sentence}"), text
    assert code == wanted_code
    assert text.count("\n") == 1


def test_the_check_itself_sees_what_is_loaded(tmp_path: Path) -> None:
    write_speaking_bundle(tmp_path / "b")
    outcome = run_process(code=PROGRAM, stdin=json.dumps([["generate", str(tmp_path / "b"), "-p", "x"]]).encode())
    ((code, text),) = json.loads(outcome.out)
    assert code == 1
    assert re.search(r"needs packages that are not installed \(import of \w+", text), text
