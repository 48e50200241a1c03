"""`shadowattn benchmark_model`: its strings, its lines, what it reports loudly and what it refuses."""

import re
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Outcome, run
from flat_graph import FlatModel

from shadowattn.models.bundle import MODEL
from shadowattn.runtime.benchmark_model import stages, timing
from shadowattn.runtime.benchmark_model.arguments import InputLayer, parse_delegate_options, parse_input_layers
from shadowattn.runtime.benchmark_model.fill import fill_inputs
from shadowattn.runtime.benchmark_model.graph import Input, match_layers
from shadowattn.runtime.benchmark_model.timing import Pace, format_statistics, run_repeatedly
from shadowattn.runtime.litert.delegate import CacheStats, library_path

QUICK = ("--num_runs=3", "--min_secs=0", "--warmup_min_secs=0")
STATISTICS = re.compile(r"^INFO: count=(\d+) (first=\d+ )?curr=\d+", re.MULTILINE)
TIMINGS = re.compile(
    r"^INFO: Inference timings in us: Init: (\d+), First inference: (\d+), Warmup \(avg\): ([\d.e+]+|nan), "
    r"Inference \(avg\): ([\d.e+]+)$",
    re.MULTILINE,
)
CHUNK = ("--input_layer=tokens,position,n_valid,cache", "--input_layer_shape=1,16:1:1:1")


def benchmark(capsys: pytest.CaptureFixture[str], graph: Path, *args: str) -> Outcome:
    return run(capsys, "benchmark_model", f"--graph={graph}", *QUICK, *args)


def add_model(path: Path, op: str = "ADD", signature: bool = True) -> Path:
    """A file with one op: y = a + a, float [2,3]."""
    model = FlatModel()
    g = model.graph("only")
    a = g.input("a", [2, 3])
    g.finish({"y": g.op(op, [a, a], [2, 3]) if op == "ADD" else g.custom(op, [a], [([2, 3], "float32", None)], b"")[0]})
    if not signature:
        model._model.signatureDefs = []
    path.write_bytes(model.to_bytes())
    return path


# --- the strings of the flags ---


def test_delegate_options() -> None:
    assert parse_delegate_options("") == {}
    assert parse_delegate_options("plan:/a/plan.bin;signatures:decode,score;") == {
        "plan": "/a/plan.bin",
        "signatures": "decode,score",
    }


@pytest.mark.parametrize("text", ["plan", "plan:", ":x", "plan:/a:b/plan.bin", "a:1;a:2", "a=1"])
def test_delegate_options_that_the_stock_tool_would_drop(text: str) -> None:
    with pytest.raises(ValueError, match="external_delegate_options"):
        parse_delegate_options(text)


def test_input_layers() -> None:
    layers = parse_input_layers("a,b:0,c", "1,2:1:4", "a,-3,9", "b::0:/x::y/b.bin,a:a.bin")
    assert layers == [
        InputLayer("a", (1, 2), (-3, 9), Path("a.bin")),
        InputLayer("b:0", (1,), None, Path("/x:y/b.bin")),
        InputLayer("c", (4,)),
    ]
    assert parse_input_layers("", "", "", "") == []


@pytest.mark.parametrize(
    ("strings", "message"),
    [
        (("a,b", "1", "", ""), "got 1 and 2"),
        (("a,a", "1:1", "", ""), "different names"),
        (("a", "1,-1", "", ""), "sizes above 0"),
        (("a", "1,x", "", ""), "sizes above 0"),
        (("a", "99999999999", "", ""), "sizes above 0"),
        (("a", "1", "b,0,1", ""), "'b' is not in --input_layer, which has a"),
        (("", "", "b,0,1", ""), "which has no names"),
        (("a", "1", "a,1", ""), "name,low,high"),
        (("a", "1", "a,0.5,1", ""), "whole numbers"),
        (("a", "1", "a,2,1", ""), "low <= high"),
        (("a", "1", "", "a"), "name:path"),
        (("a", "1", "", "a:b:c"), "name:path"),
    ],
)
def test_input_layers_that_cannot_be(strings: tuple[str, str, str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_input_layers(*strings)


def test_layers_are_matched_by_the_name_in_the_signature_or_in_the_file() -> None:
    inputs = [Input(name, f"s:{name}", i, np.dtype("int32"), (1,)) for i, name in enumerate("ab")]
    first, second = InputLayer("s:b", (1,)), InputLayer("a", (1,))
    assert match_layers(inputs, [first, second]) == [second, first]
    assert match_layers(inputs, []) == [None, None]
    for wrong in ([second], [second, InputLayer("c", (1,))]):
        with pytest.raises(ValueError, match="write --input_layer=a,b --input_layer_shape=1:1"):
            match_layers(inputs, wrong)


# --- values ---


def entry(dtype: str, shape: tuple[int, ...] = (10_000,)) -> Input:
    return Input("x", "x", 0, np.dtype(dtype), shape)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("int32", 0, 99), ("int64", 0, 99), ("uint8", 0, 254), ("int8", -127, 127), ("bool", 0, 1), ("int16", 0, 0)],
)
def test_random_integers_have_the_stock_ranges(dtype: str, low: int, high: int) -> None:
    values = fill_inputs([entry(dtype)], [None])["x"]
    assert values.dtype == dtype
    assert (values.min(), values.max()) == (low, high)


def test_random_floats_and_asked_ranges() -> None:
    values = fill_inputs([entry("float32")], [None])["x"]
    assert values.dtype == np.float32
    assert -0.5 <= values.min() < -0.49 < 0.49 < values.max() <= 0.5
    asked = fill_inputs([entry("int32")], [InputLayer("x", (10_000,), (-2, 3))])["x"]
    assert sorted(set(asked.tolist())) == [-2, -1, 0, 1, 2, 3]
    largest = InputLayer("x", (10_000,), (2**64 - 1, 2**64 - 1))
    assert fill_inputs([entry("uint64")], [largest])["x"].min() == 2**64 - 1
    with pytest.raises(ValueError, match="x is int8, which holds -128 to 127, got 0 to 128"):
        fill_inputs([entry("int8")], [InputLayer("x", (10_000,), (0, 128))])


def test_values_of_a_file(tmp_path: Path) -> None:
    wanted = np.arange(6, dtype=np.int32).reshape(2, 3)
    file = tmp_path / "x.bin"
    file.write_bytes(wanted.tobytes())
    layer = InputLayer("x", (2, 3), (7, 7), file)
    np.testing.assert_array_equal(fill_inputs([entry("int32", (2, 3))], [layer])["x"], wanted)
    with pytest.raises(ValueError, match=r"24 bytes, x \(int64 \[2, 3\]\) wants 48"):
        fill_inputs([entry("int64", (2, 3))], [layer])
    file.unlink()
    with pytest.raises(ValueError, match="No such file"):
        fill_inputs([entry("int32", (2, 3))], [layer])


# --- times ---


def test_the_line_of_statistics() -> None:
    assert format_statistics([3, 1, 2, 10]) == "count=4 first=3 curr=10 min=1 max=10 avg=4 std=3 p5=1 median=3 p95=10"
    assert format_statistics([5, 5]) == "count=2 curr=5(all same) p5=5 median=5 p95=5"
    assert format_statistics([5]) == "count=1 curr=5 p5=5 median=5 p95=5"
    assert format_statistics([]) == "count=0"


class Clock:
    """In the place of module time: goes on by a sleep, and by 7 ms with every run."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def perf_counter_ns(self) -> int:
        return round(self.now * 1e9)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_how_long_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)

    def run() -> None:
        calls.append("run")
        clock.now += 0.007

    def runs(pace: Pace) -> int:
        calls.clear()
        times = run_repeatedly(lambda: calls.append("before"), run, pace)
        assert calls == ["before", "run"] * len(times)
        assert times == [7000] * len(times)
        return len(times)

    assert runs(Pace(5, 0.0, 150.0, -1.0)) == 5
    assert runs(Pace(5, 0.0, 0.0, 0.001)) == 1  # the limit is met after the first
    assert runs(Pace(0, 0.0, 150.0, -1.0)) == 0
    clock.slept.clear()
    assert runs(Pace(1, 0.05, 150.0, 0.01)) == 3  # of 17 ms with the delay: runs go on for min_secs
    assert clock.slept == [0.01] * 3


def test_stages_and_the_rest_make_up_the_inference() -> None:
    seconds = {"append": 1e-6, "estimate": 2e-6, "select": 0.0, "attend": 3e-6}
    stats = CacheStats(4, 200, 50, 0, 0, 0, 0, 2**20, 7, seconds)
    found = {stage.name: (stage.us_per_run, stage.percent) for stage in stages.stages_of(stats, [12, 8])}
    assert found == {
        "append": (0.5, pytest.approx(5)),
        "estimate": (1.0, pytest.approx(10)),
        "select": (0.0, 0.0),
        "attend": (1.5, pytest.approx(15)),
        stages.REST: (7.0, pytest.approx(70)),
    }
    assert "read 25 % of the values" in stages.describe_reads(stats)


# --- files without a delegate ---


@pytest.mark.parametrize("signature", [True, False])
def test_any_model_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path, signature: bool) -> None:
    outcome = benchmark(capsys, add_model(tmp_path / "add.tflite", signature=signature), "--warmup_runs=2")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0] == "INFO: STARTING!"
    assert ("INFO: Using signature: only" in lines) == signature
    assert "INFO: Nodes run by xnnpack: 1 of 1 (1 ADD)" in lines
    assert [int(match[0]) for match in STATISTICS.findall(outcome.out)] == [2, 3]
    assert TIMINGS.search(outcome.out)
    assert re.search(r"^INFO: Memory footprint delta .*\(MB\): init=[\d.]+ overall=[\d.]+$", outcome.out, re.MULTILINE)
    assert "Overall peak memory" not in outcome.out
    assert "WARN" not in outcome.out


def test_parameters_are_logged(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = add_model(tmp_path / "add.tflite")
    few = benchmark(capsys, model, "--report_peak_memory_footprint").out
    assert "INFO: Min num runs: [3]" in few
    assert "Inter-run delay" not in few
    assert "Overall peak memory footprint (MB)" in few
    every = benchmark(capsys, model, "--verbose=true", "--warmup_runs=0").out
    assert "INFO: Inter-run delay (seconds): [-1]" in every
    timings = TIMINGS.search(every)
    assert timings is not None
    assert timings[3] == "nan"  # there was no warm-up: no number is made up


def test_inputs_are_resized(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = add_model(tmp_path / "add.tflite")
    shape = ("--input_layer=a", "--input_layer_shape=4,5")
    assert "INFO: Input a: float32 [4, 5]" in benchmark(capsys, model, *shape).out
    outcome = benchmark(capsys, model, "--input_layer=a", "--input_layer_shape=4")
    assert outcome.code == 1
    assert "input 'a' is [2, 3] in the file, got [4]" in outcome.err


def test_without_xnnpack_it_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    outcome = benchmark(capsys, add_model(tmp_path / "add.tflite"), "--use_xnnpack=false")
    assert outcome.out.count("WARN: 1 of 1 nodes are not delegated, LiteRT's builtin kernels run them: 1 ADD") == 2


def test_a_profile_is_not_invented(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = add_model(tmp_path / "add.tflite")
    outcome = benchmark(capsys, model, "--enable_op_profiling")
    assert "the pip interpreter (ai-edge-litert) has no per-op profile" in outcome.out
    assert "Nothing within an inference was measured" in outcome.out
    csv = tmp_path / "p.csv"
    outcome = benchmark(capsys, model, "--enable_op_profiling", f"--profiling_output_csv_file={csv}")
    assert "no delegate is not it" in outcome.err
    assert not csv.exists()


def test_files_that_are_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "x.tflite"
    assert "there is no such file" in benchmark(capsys, file).error
    for data in (b"", b"TFL3" * 50, add_model(tmp_path / "whole").read_bytes()[:200]):
        file.write_bytes(data)
        outcome = benchmark(capsys, file)
        assert outcome.code == 1
        assert "LiteRT cannot open it" in outcome.err
    assert "manifest.json is missing" in benchmark(capsys, tmp_path).error


def test_an_op_that_nobody_has(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    outcome = benchmark(capsys, add_model(tmp_path / "x.tflite", op="NoSuchOp"))
    assert outcome.code == 1
    assert "unresolved custom op: NoSuchOp" in outcome.err
    assert "give --external_delegate_path" in outcome.err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--graph=x", "--no_such_flag=1"), "unknown flag --no_such_flag"),
        ((), "wanted --graph"),
        (("--graph=x", "y"), "got 'y'"),
        (("--graph=x", "--num_runs=0"), "num_runs"),
        (("--graph=x", "--max_secs=nan"), "max_secs"),
        (("--graph=x", "--max_secs=-1"), "max_secs"),
        (("--graph=x", "--num_threads=65"), "num_threads"),
        (("--graph=x", "--external_delegate_options=plan"), "key:value"),
        (("--graph=x", "--input_layer=a"), "as many shapes"),
        (("--graph=x", "--profiling_output_csv_file=y"), "needs --enable_op_profiling"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], args: tuple[str, ...], message: str) -> None:
    outcome = run(capsys, "benchmark_model", *args)
    assert outcome.code == 2
    assert message in outcome.error
    assert outcome.out == ""


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run(capsys, "benchmark_model", "--help")
    assert outcome.code == 0
    assert "--signature_to_run_for=.." in outcome.out


# --- with our delegate ---


def test_a_bundle_brings_its_delegate(capsys: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path) -> None:
    csv = tmp_path / "p.csv"
    options = "--external_delegate_options=benchmark_rows:200;keep_ratio:0.1;min_k:1"
    full = ("--signature_to_run_for=prefill_16", *CHUNK, "--input_layer_value_range=tokens,0,96:n_valid,16,16", options)
    outcome = benchmark(capsys, tiny, *full, "--enable_op_profiling", f"--profiling_output_csv_file={csv}")
    assert outcome.code == 0, outcome.err
    assert "INFO: Nodes run by EXTERNAL delegate: 2 of " in outcome.out
    assert f"plan:{tiny / 'plan.bin'};signatures:prefill_16;num_threads:1;max_length:256;keep_ratio:0.1" in outcome.out
    assert "INFO: Input n_valid: int32 [1] = 16" in outcome.out
    assert "n_valid is" not in outcome.out
    # 3 timed runs x 2 layers x 16 rows x 4 query heads: the warm-up does not count
    assert "attended 384 rows" in outcome.out
    assert "ended at 216 positions" in outcome.out
    share = re.search(r"read ([\d.]+) % of the values", outcome.out)
    assert share is not None
    assert 5 < float(share[1]) < 15
    rows = [line.rsplit(",", 3) for line in csv.read_text().splitlines()]
    assert [row[0].strip('"') for row in rows] == ["stage", "append", "estimate", "select", "attend", stages.REST]
    assert sum(float(row[3]) for row in rows[1:]) == pytest.approx(100, abs=0.1)


def test_a_file_with_a_delegate_of_the_flags(capsys: pytest.CaptureFixture[str], tiny: Path) -> None:
    delegate = (f"--external_delegate_path={library_path()}", "--signature_to_run_for=decode")
    outcome = benchmark(capsys, tiny / MODEL, *delegate, "--external_delegate_options=mode:dense;benchmark_rows:50")
    assert outcome.code == 0, outcome.err
    assert "partially executed by the delegate (2 of " in outcome.out
    assert "read 100 % of the values" in outcome.out
    outcome = benchmark(capsys, tiny / MODEL, *delegate, "--external_delegate_options=bogus:1")
    assert outcome.code == 1
    assert "unknown option 'bogus'" in outcome.err


def test_random_numbers_without_benchmark_rows(capsys: pytest.CaptureFixture[str], tiny: Path) -> None:
    outcome = benchmark(capsys, tiny, "--signature_to_run_for=decode")
    assert outcome.code == 1
    assert re.search(r"n_valid must be in 1\.\.1|cache \d+ does not exist", outcome.err)
    assert "add benchmark_rows:N" in outcome.err
    values = "--input_layer_value_range=tokens,0,96:position,0,0:n_valid,16,16:cache,0,0"
    assert benchmark(capsys, tiny, "--signature_to_run_for=prefill_16", *CHUNK, values).code == 0


def test_numbers_that_the_graph_refuses(capsys: pytest.CaptureFixture[str], tiny: Path) -> None:
    unknown = "--input_layer_value_range=tokens,97,97"
    options = "--external_delegate_options=benchmark_rows:100"
    outcome = benchmark(capsys, tiny, "--signature_to_run_for=prefill_16", *CHUNK, unknown, options)
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert "Got 97, and bounds are [0, 96]; give values that the graph takes" in outcome.err


def test_padding_is_not_timed_in_silence(capsys: pytest.CaptureFixture[str], tiny: Path) -> None:
    few = "--input_layer_value_range=tokens,0,96:n_valid,3,3"
    options = "--external_delegate_options=benchmark_rows:100"
    outcome = benchmark(capsys, tiny, "--signature_to_run_for=prefill_16", *CHUNK, few, options)
    assert outcome.out.count("WARN: n_valid is 3: attention works on 3 of the 16 rows of a chunk") == 2
    assert "n_valid,16,16" in outcome.out


def test_a_delegate_that_claims_nothing(capsys: pytest.CaptureFixture[str], tiny: Path) -> None:
    outcome = benchmark(capsys, tiny, "--signature_to_run_for=score_8")
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("WARN: Though EXTERNAL delegate is explicitly applied, the model graph will not be") == 2
    assert "1 GATHER_ND" in outcome.out


def test_signatures(capsys: pytest.CaptureFixture[str], tiny: Path) -> None:
    for signature in ("", "prefill_17"):
        outcome = benchmark(capsys, tiny, f"--signature_to_run_for={signature}")
        assert outcome.code == 1
        assert "with one of: prefill_4, prefill_16, decode, score_8, " in outcome.error
        assert "--signature_to_run_for=NAME" in outcome.err
    options = "--external_delegate_options=signatures:decode;benchmark_rows:9"
    outcome = benchmark(capsys, tiny, "--signature_to_run_for=prefill_4", options)
    assert outcome.code == 1
    assert outcome.err.rstrip().endswith("add it to the delegate's option signatures")


def test_libraries_that_are_no_delegate(capsys: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.so"
    text.write_text("no library")
    for library, message in ((tmp_path / "none.so", "there is no such file"), (text, "wanted an external delegate")):
        outcome = benchmark(capsys, tiny, "--signature_to_run_for=decode", f"--external_delegate_path={library}")
        assert outcome.code == 1
        assert message in outcome.err
        assert "Traceback" not in outcome.err
