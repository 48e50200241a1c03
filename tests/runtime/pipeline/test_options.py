"""What is asked of a pipeline: the grammar of --npu, options that nobody can have, graphs that are missing."""

import dataclasses
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from pipelines import goes_on, invented_profile, open_pipelined
from tiny_bundle import write_tiny_bundle

from shadowattn.models.bundle import MANIFEST
from shadowattn.models.estimate_graphs import FILE_NAME, EstimateKey
from shadowattn.models.plan import FILE_NAME as PLAN
from shadowattn.models.plan import Plan
from shadowattn.runtime import Session
from shadowattn.runtime.pipeline.options import ExternalDelegate, NpuChoice, PipelineOptions

QNN = ExternalDelegate("/v/libQnn.so", (("backend_type", "htp"), ("dir", "/a&b=c%+é"), ("empty", "")))


@pytest.mark.parametrize(
    ("text", "choice", "name"),
    [
        ("host", NpuChoice(), "host INT8"),
        (
            "delegate:/v/libQnn.so?backend_type=htp&dir=%2Fa%26b%3Dc%25+%C3%A9&empty=",
            NpuChoice(None, QNN),
            "delegate libQnn.so",
        ),
        (
            "delegate:lib%20a=b&c+d.so",
            NpuChoice(None, ExternalDelegate("lib%20a=b&c+d.so")),
            "delegate lib%20a=b&c+d.so",
        ),
        ("blobs:a:b.zip", NpuChoice(Path("a:b.zip")), "blobs a:b.zip through no delegate"),
        (
            "blobs:/x/sm8650.zip+delegate:libd.so?a=b=c",
            NpuChoice(Path("/x/sm8650.zip"), ExternalDelegate("libd.so", (("a", "b=c"),))),
            "blobs sm8650.zip through libd.so",
        ),
    ],
)
def test_npu(text: str, choice: NpuChoice, name: str) -> None:
    assert NpuChoice.parse(text) == choice
    assert (choice.name, choice.on_host) == (name, text == "host")
    if text != "host":
        assert NpuChoice.parse(text, require_npu=True) == dataclasses.replace(choice, require=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((text, "wanted host, delegate:PATH") for text in ("", "npu", "Host", "host:", "qnn:lib.so")),
        *((f"delegate:{text}", "wanted the path of a delegate's library") for text in ("", "?a=b", "a\0b.so")),
        ("delegate:l.so?", "option '': wanted key=value"),
        ("delegate:l.so?a=1&", "option '': wanted key=value"),
        ("delegate:l.so?a", "option 'a': wanted key=value"),
        ("delegate:l.so?=a", "option '=a': wanted key=value"),
        ("delegate:l.so?a=1&a=2", "option 'a' is given twice"),
        ("delegate:l.so?a=50%", "write %25 for a % itself"),
        ("delegate:l.so?a=%4x", "write %25 for a % itself"),
        ("delegate:l.so?a=%FF", "wanted UTF-8"),
        ("delegate:l.so?a=\udcff", "wanted UTF-8"),
        ("delegate:l.so?a=%00", "cannot hold a NUL byte"),
        ("blobs:", "the file is missing"),
        ("blobs:+delegate:l.so", "the file is missing"),
        ("blobs:a\0.zip", "a NUL byte"),
        ("blobs:a.zip?a=b", "options belong to a delegate: write blobs:FILE"),
        ("blobs:a.zip+delegate:", "wanted the path of a delegate's library"),
    ],
)
def test_refusals_say_what_was_wanted(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        NpuChoice.parse(text)
    str(caught.value).encode()  # can be printed


def test_the_host_is_not_an_npu() -> None:
    with pytest.raises(ValueError, match="require_npu needs an NPU, and the host is not one; give a delegate:PATH"):
        NpuChoice.parse("host", require_npu=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"planner": "johnson"}, "planner must be one of best, fifo, greedy, off, got 'johnson'"),
        ({"scales": "nearset"}, "scales must be one of auto, rank, nearest, log, one, got 'nearset'"),
        *(
            ({"heads": heads}, "heads must be numbers of heads of a launch, at least 1")
            for heads in ((), (1, 0), (1.0,))
        ),
    ],
)
def test_options_that_nobody_can_have(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PipelineOptions(**options)  # type: ignore[arg-type]


# --- graphs that are missing ---


@pytest.fixture
def some(tiny: Path, tmp_path: Path) -> Callable[[Callable[[EstimateKey], bool]], NpuChoice]:
    """Some of the bundle's graphs in a zip of their own, which the host runs."""

    def write(keep: Callable[[EstimateKey], bool]) -> NpuChoice:
        with zipfile.ZipFile(tiny / FILE_NAME) as whole, zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
            for name in whole.namelist():
                if keep(EstimateKey.parse(name.removesuffix(".tflite"))):
                    archive.writestr(name, whole.read(name))
        return NpuChoice.parse(f"blobs:{tmp_path / 'some.zip'}")

    return write


ON_HOST = pytest.mark.filterwarnings("ignore:.*on the CPU as host INT8:RuntimeWarning")


@ON_HOST
def test_a_grid_that_lacks_a_length(tiny: Path, text: list[int], some: Callable[..., NpuChoice]) -> None:
    with open_pipelined(tiny, PipelineOptions(some(lambda key: key.seq_len == 64))) as session:
        message = r"no estimate graph for chunks of 16 rows and bucket 256; there are such for 4 x 64, 16 x 64; convert"
        for call in (session.prefill, lambda tokens: session.prepare(len(tokens))):
            with pytest.raises(ValueError, match=message):
                call(text[session.length : 100])
            assert session.tokens == text[:64]
        session.use_pipeline(session.make_pipeline(PipelineOptions()))
        goes_on(session, tiny, text)


@ON_HOST
def test_a_grid_that_lacks_a_bucket(tiny: Path, text: list[int], some: Callable[..., NpuChoice]) -> None:
    npu = some(lambda key: key.bucket != 5)
    with open_pipelined(tiny, PipelineOptions(npu, scales="one")) as session:
        with pytest.raises(ValueError, match=r"some\.zip: lacks estimate_16_64_\d_5; .*compile the bundle's"):
            session.prefill(text[:40])
        assert session.length == 0
        session.use_pipeline(session.make_pipeline(PipelineOptions(npu, scales="rank")))
        goes_on(session, tiny, text)


@ON_HOST
def test_other_launch_sizes_for_each_length(tiny: Path, text: list[int], some: Callable[..., NpuChoice]) -> None:
    npu = some(lambda key: key.heads == (1 if key.seq_len == 64 else 4))
    with open_pipelined(tiny, PipelineOptions(npu, scales="rank")) as session:
        assert [session.pipelined.planner.counts(16, seq_len) for seq_len in (64, 256, 512)] == [(1,), (4,), ()]
        goes_on(session, tiny, text)
        assert {(chunk.seq_len, chunk.launches) for chunk in session.pipelined.record.chunks} == {(64, 8), (256, 2)}


def test_launches_of_all_heads_that_take_different_buckets(tiny: Path, text: list[int]) -> None:
    with open_pipelined(tiny, PipelineOptions(scales="nearest", heads=(4,))) as session:
        with pytest.raises(ValueError, match="launches of 4 heads cannot cover the heads; allow launches of 1 head"):
            session.prefill(text[:64])
        assert session.length % 16 == 0


def test_heads_that_no_graph_has(tiny: Path) -> None:
    """Said when the session opens, not in the middle of a text."""
    with pytest.raises(ValueError, match=r"no estimate graph is of 3, 5 heads, there are such of 1, 2, 4$"):
        open_pipelined(tiny, PipelineOptions(heads=(5, 3)))


def test_scales_of_a_grid_that_is_not_there(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    manifest = write_tiny_bundle(bundle)
    plan = Plan.from_bytes((bundle / PLAN).read_bytes(), PLAN)
    (bundle / PLAN).write_bytes(dataclasses.replace(plan, grid=None).to_bytes())
    size = (bundle / PLAN).stat().st_size
    files = dict(manifest.files) | {PLAN: dataclasses.replace(manifest.files[PLAN], bytes=size)}
    (bundle / MANIFEST).write_text(dataclasses.replace(manifest, files=files).to_json(), "utf-8")
    for scales in ("nearest", "log", "one"):
        with pytest.raises(ValueError, match=rf"scales={scales}: the bundle has no scale grid; convert again"):
            open_pipelined(bundle, PipelineOptions(scales=scales))
    with open_pipelined(bundle, PipelineOptions(), mode="shadow_paper") as session:
        session.prefill([1, 2, 3] * 10)
        assert session.pipelined.record.buckets.shape == (2, 4, 1)


def test_an_executor_of_another_engine(tiny: Path, tmp_path: Path, text: list[int]) -> None:
    """Its graphs would be given this session's cache."""
    other = tmp_path / "other"
    write_tiny_bundle(other, seed=2)
    with (
        open_pipelined(tiny, PipelineOptions()) as session,
        open_pipelined(tiny, PipelineOptions()) as sibling,
        open_pipelined(other, PipelineOptions()) as stranger,
        Session.open(tiny) as fused,
    ):
        with pytest.raises(ValueError, match="the executor runs another bundle's graphs"):
            session.use_pipeline(stranger.make_pipeline(PipelineOptions()))
        with pytest.raises(ValueError, match="open it with executor='pipelined'"):
            fused.use_pipeline(session.pipelined)
        session.use_pipeline(sibling.make_pipeline(PipelineOptions()))
        goes_on(session, tiny, text)


def test_profiles_that_plan_nothing(tiny: Path, text: list[int]) -> None:
    """Its chunks are not the bundle's; launches that the session may not use."""
    message = "the profile is of chunks of 128 rows, the estimate graphs of 4, 16; run `shadowattn profile` again"
    with pytest.raises(ValueError, match=message):
        open_pipelined(tiny, PipelineOptions(profile=invented_profile(tiny, chunk=128)))
    with open_pipelined(tiny, PipelineOptions(profile=invented_profile(tiny, (2, 4)), heads=(1,))) as session:
        with pytest.raises(ValueError, match="profile has launches of 2, 4 heads, the session may use 1; run"):
            session.prefill(text[:16])
        assert session.length == 0
