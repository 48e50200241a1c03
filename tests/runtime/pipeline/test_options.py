"""What is asked of a pipeline: the grammar of --npu, options that nobody can have, graphs that are missing."""

import dataclasses
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pipelines import change_grid, goes_on, invented_profile, open_pipelined, run
from tiny_bundle import write_tiny_bundle

from shadowattn.models.estimate_graphs import FILE_NAME, EstimateKey
from shadowattn.runtime import Session
from shadowattn.runtime.pipeline.options import ExternalDelegate, NpuChoice, PipelineOptions

QNN = ExternalDelegate("libQnn.so", (("type", "htp"), ("dir", "/a&b=c%+é"), ("empty", "")))
PLAIN = ExternalDelegate("l%20a=b&c+d.so")
BLOBS = NpuChoice(Path("/x/sm8650.zip"), ExternalDelegate("libd.so", (("a", "b=c"),)))


@pytest.mark.parametrize(
    ("text", "choice", "name"),
    [
        ("host", NpuChoice(), "host INT8"),
        ("delegate:libQnn.so?type=htp&dir=%2Fa%26b%3Dc%25+%C3%A9&empty=", NpuChoice(None, QNN), "delegate libQnn.so"),
        ("delegate:l%20a=b&c+d.so", NpuChoice(None, PLAIN), "delegate l%20a=b&c+d.so"),
        ("blobs:a:b.zip", NpuChoice(Path("a:b.zip")), "blobs a:b.zip through no delegate"),
        ("blobs:/x/sm8650.zip+delegate:libd.so?a=b=c", BLOBS, "blobs sm8650.zip through libd.so"),
    ],
)  # fmt: skip
def test_npu(text: str, choice: NpuChoice, name: str) -> None:
    assert NpuChoice.parse(text) == choice
    assert (choice.name, choice.on_host) == (name, text == "host")
    if text != "host":
        assert NpuChoice.parse(text, require_npu=True) == dataclasses.replace(choice, require=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("host", "require_npu needs an NPU, and the host is not one; give a delegate:PATH"),
        *((text, "wanted host, delegate:PATH") for text in ("", "npu", "Host", "host:", "qnn:lib.so")),
        *((f"delegate:{text}", "wanted the path of a delegate's library") for text in ("", "?a=b", "a\0b.so")),
        *((f"delegate:l.so?{text}", "wanted key=value") for text in ("", "a=1&", "a", "=a")),
        ("delegate:l.so?a=1&a=2", "option 'a' is given twice"),
        *((f"delegate:l.so?a={text}", "write %25 for a % itself") for text in ("50%", "%4x")),
        *((f"delegate:l.so?a={text}", "wanted UTF-8") for text in ("%FF", "\udcff")),
        ("delegate:l.so?a=%00", "cannot hold a NUL byte"),
        *((f"blobs:{text}", "the file is missing") for text in ("", "+delegate:l.so")),
        ("blobs:a\0.zip", "holds a NUL byte"),
        ("blobs:a.zip?a=b", "options belong to a delegate: blobs:FILE"),
        ("blobs:a.zip+delegate:", "wanted the path of a delegate's library"),
    ],
)
def test_refusals_say_what_was_wanted(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        NpuChoice.parse(text, require_npu=True)
    str(caught.value).encode()  # can be printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"planner": "johnson"}, "planner must be one of best, fifo, greedy, off, got 'johnson'"),
        ({"scales": "nearset"}, "scales must be one of auto, rank, nearest, log, one, got 'nearset'"),
        *(({"heads": heads}, "heads must be numbers of heads of a launch") for heads in ((), (1, 0), (1.0,))),
    ],
)
def test_options_that_nobody_can_have(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PipelineOptions(**options)


def _one_length(key: EstimateKey) -> bool:
    return key.seq_len == 64


def _no_bucket_5(key: EstimateKey) -> bool:
    return key.bucket != 5


def _by_length(key: EstimateKey) -> bool:
    return key.heads == (1 if key.seq_len == 64 else 4)


@pytest.mark.filterwarnings("ignore:.*on the CPU as host INT8:RuntimeWarning")
@pytest.mark.parametrize(
    ("keep", "options", "held", "message"),
    [
        (
            _one_length, {}, 64,
            "no estimate graph for chunks of 16 rows and bucket 256; there are such for 4 x 64, 16 x 64; convert",
        ),
        (_no_bucket_5, {"scales": "one"}, 0, r"some\.zip: lacks estimate_16_64_\d_5; .*compile the bundle's"),
        (_by_length, {"heads": (4,)}, 0, "no estimate graph for chunks of 16 rows and bucket 64; there are such for"),
        (_by_length, {}, None, ""),
    ],
)  # fmt: skip
def test_graphs_that_are_missing(
    tiny: Path, text: list[int], tmp_path: Path, keep: Any, options: dict[str, Any], held: int | None, message: str
) -> None:
    """Those of a zip, which the host runs. The session goes on with what there is, or with the bundle's own."""
    with zipfile.ZipFile(tiny / FILE_NAME) as whole, zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        for name in whole.namelist():
            if keep(EstimateKey.parse(name.removesuffix(".tflite"))):
                archive.writestr(name, whole.read(name))
    npu = NpuChoice.parse(f"blobs:{tmp_path / 'some.zip'}")
    with open_pipelined(tiny, PipelineOptions(npu, **({"scales": "rank"} | options))) as session:
        if held is not None:
            with pytest.raises(ValueError, match=message):
                session.prefill(text[:100])
            assert session.tokens == text[:held]
            session.use_pipeline(session.make_pipeline(PipelineOptions()))
        goes_on(session, tiny, text)
        if held is None:
            record = session.pipelined.record
            assert {(chunk.seq_len, chunk.launches) for chunk in record.chunks} == {(64, 8), (256, 2)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": (5, 3)}, r"no estimate graph is of 3, 5 heads, there are such of 1, 2, 4$"),
        ({"chunk": 128}, "the profile is of chunks of 128 rows, the estimate graphs of 4, 16; run"),
        ({"heads": (1,), "known": (2, 4)}, "profile has launches of 2, 4 heads, the session may use 1; run"),
        ({"heads": (4,), "scales": "nearest"}, "launches of 4 heads cannot cover the heads; allow launches of 1 head"),
    ],
)
def test_what_the_bundle_cannot_do(tiny: Path, text: list[int], options: dict[str, Any], message: str) -> None:
    if options.keys() & {"chunk", "known"}:
        options["profile"] = invented_profile(tiny, options.pop("known", (1, 2, 4)), options.pop("chunk", 16))
    with pytest.raises(ValueError, match=message):
        run(tiny, text[:64], PipelineOptions(**options))


def test_scales_of_a_grid_that_is_not_there(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    write_tiny_bundle(bundle)
    change_grid(bundle, lambda grid: None)
    for scales in ("nearest", "log", "one"):
        with pytest.raises(ValueError, match=rf"scales={scales}: the bundle has no scale grid; convert again"):
            open_pipelined(bundle, PipelineOptions(scales=scales))
    with open_pipelined(bundle, PipelineOptions(), mode="shadow_paper") as session:
        session.prefill([1, 2, 3] * 10)
        assert session.pipelined.record.buckets.shape == (2, 4, 1)


def test_an_executor_of_another_engine(tiny: Path, tmp_path: Path, text: list[int]) -> None:
    """Its graphs would be given this session's cache."""
    write_tiny_bundle(tmp_path / "other", seed=2)
    with (
        open_pipelined(tiny, PipelineOptions()) as session,
        open_pipelined(tiny, PipelineOptions()) as sibling,
        open_pipelined(tmp_path / "other", PipelineOptions()) as stranger,
        Session.open(tiny) as fused,
    ):
        with pytest.raises(ValueError, match="the executor runs another bundle's graphs"):
            session.use_pipeline(stranger.make_pipeline(PipelineOptions()))
        with pytest.raises(ValueError, match="open it with executor='pipelined'"):
            fused.use_pipeline(session.pipelined)
        session.use_pipeline(sibling.make_pipeline(PipelineOptions()))
        goes_on(session, tiny, text)
