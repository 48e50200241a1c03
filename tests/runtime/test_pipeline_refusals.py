"""What a pipeline cannot have: graphs that are missing, options that nobody can have, profiles of something else."""

import dataclasses
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from pipelines import goes_on, open_pipelined
from tiny_bundle import write_tiny_bundle

from shadowattn.models.bundle import MANIFEST, read_manifest
from shadowattn.models.estimate_graphs import FILE_NAME, EstimateKey
from shadowattn.models.plan import FILE_NAME as PLAN
from shadowattn.models.plan import Plan
from shadowattn.runtime import Session
from shadowattn.runtime.npu.choice import NpuChoice
from shadowattn.runtime.pipeline.options import PipelineOptions
from shadowattn.runtime.pipeline.profiles import default_path, find_profile, identity
from shadowattn.runtime.scheduling.profile import (
    SNAPDRAGON_8_GEN_3,
    BundleIdentity,
    Conditions,
    CpuTime,
    LatencyProfile,
    LaunchTime,
    read_profile,
    write_profile,
)

# --- graphs that are missing ---


def _zip_of(bundle: Path, path: Path, keep: Callable[[EstimateKey], bool]) -> NpuChoice:
    """Some of the bundle's graphs in a zip of their own, which the host runs."""
    with zipfile.ZipFile(bundle / FILE_NAME) as whole, zipfile.ZipFile(path, "w") as some:
        for name in whole.namelist():
            if keep(EstimateKey.parse(name.removesuffix(".tflite"))):
                some.writestr(name, whole.read(name))
    return NpuChoice.parse(f"blobs:{path}")


@pytest.mark.filterwarnings("ignore:.*on the CPU as host INT8:RuntimeWarning")
def test_a_grid_that_lacks_a_length(tiny: Path, text: list[int], tmp_path: Path) -> None:
    npu = _zip_of(tiny, tmp_path / "some.zip", lambda key: key.seq_len == 64)
    with open_pipelined(tiny, PipelineOptions(npu)) as session:
        message = r"no estimate graph for chunks of 16 rows and bucket 256; there are such for 1 x 64, 4 x 64, 16 x 64"
        with pytest.raises(ValueError, match=message):
            session.prefill(text[:100])
        assert session.tokens == text[:64]
        with pytest.raises(ValueError, match="bucket 256"):
            session.prepare(30)
        session.use_pipeline(session.make_pipeline(PipelineOptions()))
        goes_on(session, tiny, text)


@pytest.mark.filterwarnings("ignore:.*on the CPU as host INT8:RuntimeWarning")
def test_a_grid_that_lacks_a_bucket(tiny: Path, text: list[int], tmp_path: Path) -> None:
    npu = _zip_of(tiny, tmp_path / "some.zip", lambda key: key.bucket != 5)
    with open_pipelined(tiny, PipelineOptions(npu, scales="one")) as session:
        with pytest.raises(ValueError, match=r"some\.zip: lacks estimate_16_64_\d_5; .*compile the graphs"):
            session.prefill(text[:40])
        assert session.length == 0
        session.use_pipeline(session.make_pipeline(PipelineOptions(npu, scales="rank")))
        goes_on(session, tiny, text)


@pytest.mark.filterwarnings("ignore:.*on the CPU as host INT8:RuntimeWarning")
def test_a_grid_with_other_launch_sizes_for_each_length(tiny: Path, text: list[int], tmp_path: Path) -> None:
    """Each bucket of lengths is planned with what it has."""
    npu = _zip_of(tiny, tmp_path / "some.zip", lambda key: key.heads == (1 if key.seq_len == 64 else 4))
    with open_pipelined(tiny, PipelineOptions(npu, scales="rank")) as session:
        assert (session.pipelined.launch_sizes(16, 64), session.pipelined.launch_sizes(16, 256)) == ((1,), (4,))
        goes_on(session, tiny, text)
        assert {(chunk.seq_len, chunk.launches) for chunk in session.pipelined.record.chunks} == {(64, 8), (256, 2)}


def test_launches_of_all_heads_that_take_different_buckets(tiny: Path, text: list[int]) -> None:
    with open_pipelined(tiny, PipelineOptions(scales="nearest", heads=(4,))) as session:
        with pytest.raises(ValueError, match="launches of 4 heads cannot cover the heads; allow launches of 1 head"):
            session.prefill(text[:64])
        assert session.length % 16 == 0


# --- what is asked for ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"planner": "random"}, "planner must be one of fifo, .*, off, got 'random'"),
        ({"scales": "nearset"}, "scales must be one of auto, rank, nearest, log, one, got 'nearset'"),
        ({"depth": 0}, "depth is the number of estimate buffers, at least 1, got 0"),
        ({"depth": 2.0}, "depth is the number of estimate buffers, at least 1, got 2.0"),
        ({"depth": True}, "depth is the number of estimate buffers"),
        ({"heads": ()}, r"heads must be numbers of heads of a launch, at least 1, got \(\)"),
        ({"heads": (1, 0)}, r"heads must be .* got \(1, 0\)"),
        ({"heads": (1.0,)}, r"heads must be .* got \(1.0,\)"),
        ({"launch_ms": -1.0}, "launch_ms must be at least 0, got -1.0"),
        ({"launch_ms": float("nan")}, "launch_ms must be at least 0, got nan"),
        ({"launch_ms": float("inf")}, "launch_ms must be at least 0, got inf"),
    ],
)
def test_options_that_nobody_can_have(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PipelineOptions(**options)  # type: ignore[arg-type]


def test_heads_that_no_graph_has(tiny: Path) -> None:
    """Said when the session opens, not in the middle of a text."""
    with pytest.raises(ValueError, match=r"no estimate graph is of 3, 5 heads, there are such of 1, 2, 4$"):
        open_pipelined(tiny, PipelineOptions(heads=(5, 3)))


def test_scales_of_a_grid_that_is_not_there(tiny: Path, tmp_path: Path) -> None:
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


# --- profiles ---

CONDITIONS = Conditions(2, "shadow")


def _profile(bundle: BundleIdentity, chunk: int = 16, heads: tuple[int, ...] = (1, 2, 4)) -> LatencyProfile:
    launch = tuple(LaunchTime(chunk, 64, count, 1e-3) for count in heads)
    cpu = (CpuTime(chunk, 64, 1e-4, 1e-3, 0.0),)
    return LatencyProfile("none", "host INT8", True, "invented", launch, cpu, (), (), bundle, CONDITIONS)


def test_a_profile_of_another_bundle(tiny: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    manifest = write_tiny_bundle(bundle)
    host = "host INT8"
    assert find_profile(bundle, manifest, host, CONDITIONS, None) is None
    own, other = _profile(identity(manifest)), _profile(BundleIdentity("other", "ab" * 32))
    asked = tmp_path / "asked.json"
    write_profile(other, asked)
    with pytest.raises(ValueError, match=r"asked\.json: the profile was measured with bundle 'other'.* wanted 'tiny'"):
        find_profile(bundle, manifest, host, CONDITIONS, asked)
    write_profile(other, default_path(bundle))
    with pytest.warns(RuntimeWarning, match=r"bundle\.profile\.json is not used: .* bundle 'other'"):
        assert find_profile(bundle, manifest, host, CONDITIONS, None) is None
    default_path(bundle).write_text("{")
    with pytest.warns(RuntimeWarning, match=r"profile\.json is not used: .*not valid JSON"):
        assert find_profile(bundle, manifest, host, CONDITIONS, None) is None
    with pytest.raises(ValueError, match=r"gone\.json: cannot be read"):
        find_profile(bundle, manifest, host, CONDITIONS, tmp_path / "gone.json")
    write_profile(own, default_path(bundle))
    assert find_profile(bundle, manifest, host, CONDITIONS, None) == own


def test_a_profile_of_another_npu(tiny: Path, tmp_path: Path) -> None:
    """Its launches take another time; nothing else in it does."""
    bundle = tmp_path / "bundle"
    own = _profile(identity(write_tiny_bundle(bundle)))
    manifest, npu = read_manifest(bundle), "delegate libvendor.so"
    write_profile(own, default_path(bundle))
    message = r"launches are of host INT8, the session's of delegate libvendor\.so; plan a phone with schedule --soc"
    with pytest.warns(RuntimeWarning, match=rf"bundle\.profile\.json is not used: the profile's {message}"):
        assert find_profile(bundle, manifest, npu, CONDITIONS, None) is None
    write_profile(dataclasses.replace(own, simulated=False), tmp_path / "asked.json")
    with pytest.raises(ValueError, match=r"asked\.json: the profile's launches .*; measure again with the same --npu"):
        find_profile(bundle, manifest, npu, CONDITIONS, tmp_path / "asked.json")
    found = find_profile(bundle, manifest, "host INT8", CONDITIONS, tmp_path / "asked.json")
    assert found is not None
    assert not found.simulated


@pytest.mark.parametrize("other", [Conditions(1, "shadow"), Conditions(2, "shadow_paper")])
def test_a_profile_of_other_conditions(tmp_path: Path, other: Conditions) -> None:
    """Other threads or another mode; and a file that does not say which."""
    bundle, asked = tmp_path / "bundle", tmp_path / "asked.json"
    own = _profile(identity(write_tiny_bundle(bundle)))
    manifest = read_manifest(bundle)
    files = {
        f"with 2 threads in mode shadow, the session has {other}; run `shadowattn profile` again": own.to_json(),
        "version 1 does not say with how many threads": own.to_json().replace('"version": 2', '"version": 1'),
    }
    for message, text in files.items():
        for path in (asked, default_path(bundle)):
            path.write_text(text)
        with pytest.raises(ValueError, match=rf"asked\.json: .*{message}"):
            find_profile(bundle, manifest, "host INT8", other, asked)
        with pytest.warns(RuntimeWarning, match=rf"bundle\.profile\.json is not used: .*{message}"):
            assert find_profile(bundle, manifest, "host INT8", other, None) is None


def test_profiles_that_plan_nothing(tiny: Path, text: list[int]) -> None:
    """None of its chunks is the bundle's; a phone's, without CPU figures; launches that the session may not use."""
    own = identity(read_manifest(tiny))
    message = "the profile has launches and CPU figures for chunks of 128 rows, the estimate graphs are of 1, 4, 16"
    with pytest.raises(ValueError, match=message):
        open_pipelined(tiny, PipelineOptions(profile=_profile(own, chunk=128)))
    with pytest.raises(ValueError, match="figures for chunks of no rows"):
        open_pipelined(tiny, PipelineOptions(profile=read_profile(SNAPDRAGON_8_GEN_3)))
    with open_pipelined(tiny, PipelineOptions(profile=_profile(own, heads=(2, 4)), heads=(1,))) as session:
        with pytest.raises(ValueError, match="profile has launches of 2, 4 heads, the session may use 1; measure"):
            session.prefill(text[:16])
        assert session.length == 0
