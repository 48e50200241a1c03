"""Latency profiles: reading strictly, looking up, the published one, and the problem made from them."""

import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scheduling_problems import SEED

from shadowattn.models.spec import ModelSpec, RopeSpec
from shadowattn.runtime.scheduling.interpolation import interpolate
from shadowattn.runtime.scheduling.planners import plan
from shadowattn.runtime.scheduling.profile import (
    SNAPDRAGON_8_GEN_3,
    AppendTime,
    BundleIdentity,
    Conditions,
    CpuTime,
    LatencyProfile,
    LaunchTime,
    LinearTime,
    read_profile,
    write_profile,
)
from shadowattn.runtime.scheduling.profiled import Shape, problem
from shadowattn.runtime.scheduling.validity import check

SHA = "ab" * 32


def measured() -> LatencyProfile:
    launch = [(128, 1024, 1, 0.001), (128, 1024, 3, 0.002), (128, 2048, 1, 0.003), (128, 2048, 3, 0.004)]
    return LatencyProfile(
        machine="a desktop",
        npu="host INT8",
        simulated=False,
        source="shadowattn profile",
        launch=tuple(LaunchTime(*time) for time in (*launch, (128, 4096, 1, 0.005))),
        cpu=(
            CpuTime(128, 1000, 0.0001, 0.001, 0.0, 0.0002),
            CpuTime(128, 3000, 0.0003, 0.002, 0.0, 0.0004),
            CpuTime(64, 1000, 0.1, 0.1, 0.1),
        ),
        linear=(LinearTime(128, 0.004),),
        append=(AppendTime(128, 1000, 0.0005), AppendTime(128, 2000, 0.0007)),
        bundle=BundleIdentity("tiny", SHA),
        conditions=Conditions(2, "shadow"),
    )


def model(heads: int = 9, kv_heads: int = 3) -> ModelSpec:
    return ModelSpec("llama", 100, heads * 64, 100, 2, heads, kv_heads, 64, 1e-5, RopeSpec(1e4), 4096, True)


def test_round_trip(tmp_path: Path) -> None:
    for profile in (measured(), read_profile(SNAPDRAGON_8_GEN_3)):
        path = tmp_path / "profile.json"
        write_profile(profile, path)
        assert read_profile(path) == profile


def test_lookups() -> None:
    profile = measured()
    assert profile.launch_seconds(128, 2048) == {1: 0.003, 3: 0.004}
    assert profile.launch_seconds(128, 1536) == pytest.approx({1: 0.002, 3: 0.003})
    assert profile.launch_seconds(128, 3072) == pytest.approx({1: 0.004, 3: 0.006})
    found = profile.cpu_seconds(128, 2500)
    assert (found.select_seconds, found.attend_seconds) == pytest.approx((0.00025, 0.00175))
    handovers = {length: profile.cpu_seconds(128, length).handover_seconds for length in (100, 1000, 2000, 3000, 9000)}
    assert handovers == pytest.approx({100: 2e-4, 1000: 2e-4, 2000: 3e-4, 3000: 4e-4, 9000: 4e-4})  # not in proportion
    assert profile.for_chunk(32).cpu_seconds(32, 1000).handover_seconds == 2e-4
    assert profile.cpu_seconds(64, 1000) == CpuTime(64, 1000, 0.1, 0.1, 0.1, 0.0)
    assert profile.linear_seconds(128) == 0.004
    assert profile.append_seconds(128, 1500) == pytest.approx(0.0006)


def test_interpolation_meets_every_point_and_stays_between() -> None:
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    for _ in range(100):
        points = {rng.randint(1, 50): rng.uniform(0.1, 1) for _ in range(rng.randint(1, 5))}
        for low, high in zip(sorted(points), sorted(points)[1:], strict=False):
            for length in range(low, high + 1):
                share = (length - low) / (high - low)
                assert interpolate(points, length) == pytest.approx(points[low] * (1 - share) + points[high] * share)
        last = max(points)
        assert interpolate(points, 2 * last) == pytest.approx(2 * points[last])
        assert interpolate({40: 0.5}, 10) == pytest.approx(0.125)


@pytest.mark.parametrize(
    ("look_up", "message"),
    [
        (
            lambda profile: profile.launch_seconds(256, 2048),
            "no launches for chunks of 256 tokens, it has them for: 128",
        ),
        (
            lambda profile: profile.cpu_seconds(32, 10),
            "no CPU figures for chunks of 32 tokens, it has them for: 64, 128",
        ),
        (lambda profile: profile.linear_seconds(1), "no linear figures for chunks of 1 tokens"),
        (lambda profile: profile.append_seconds(1, 1), "no append figures for chunks of 1 tokens"),
    ],
)
def test_what_was_not_profiled(look_up: Callable[[LatencyProfile], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        look_up(measured())


def test_the_published_profile_has_launches_only() -> None:
    profile = read_profile(SNAPDRAGON_8_GEN_3)
    assert profile.simulated
    assert "2508.16703" in profile.source
    assert profile.launch_seconds(128, 2048) == {1: 0.002, 2: 0.003, 4: 0.004}
    with pytest.raises(ValueError, match="no CPU figures for chunks of 128 tokens, it has them for: none"):
        profile.cpu_seconds(128, 2048)
    profile.check_bundle("any", "00")


def test_with_cpu_of_another_stays_simulated() -> None:
    published, own = read_profile(SNAPDRAGON_8_GEN_3), measured()
    both = published.with_cpu_of(own)
    assert both.simulated
    assert both.source.startswith("SIMULATED: launches from arXiv 2508.16703")
    assert own.source in both.source
    assert (both.launch, both.cpu, both.append, both.bundle) == (published.launch, own.cpu, own.append, own.bundle)
    with pytest.raises(ValueError, match="Snapdragon 8 Gen 3 has no CPU figures"):
        own.with_cpu_of(published)


def test_a_profile_of_another_bundle_is_refused() -> None:
    measured().check_bundle("renamed", SHA)
    with pytest.raises(ValueError, match=r"measured with bundle 'tiny' .*wanted 'other' \(cdcdcd"):
        measured().check_bundle("other", "cd" * 32)


def test_a_profile_of_other_threads_or_another_mode_is_refused() -> None:
    measured().check_conditions(Conditions(2, "shadow"))
    for other, named in (
        (Conditions(1, "shadow"), "1 thread in mode shadow"),
        (Conditions(2, "shadow_paper"), "2 thr"),
    ):
        message = rf"measured with 2 threads in mode shadow, the session has {named}.*`shadowattn profile` again with"
        with pytest.raises(ValueError, match=message):
            measured().check_conditions(other)
    read_profile(SNAPDRAGON_8_GEN_3).check_conditions(Conditions(1, "shadow"))


def test_published_figures_of_the_version_before_still_do() -> None:
    """They have no conditions, so they lack nothing."""
    old = json.loads(SNAPDRAGON_8_GEN_3.read_text("utf-8")) | {"version": 1}
    assert LatencyProfile.from_json(json.dumps(old), "here") == read_profile(SNAPDRAGON_8_GEN_3)


def _set(*path: Any) -> Callable[[dict[str, Any]], None]:
    """The last item is the value, the others lead to it."""

    def change(raw: Any) -> None:
        for key in path[:-2]:
            raw = raw[key]
        raw[path[-2]] = path[-1]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("format", "other"), "not a latency profile"),
        (_set("version", 3), "version 3 is not 2; update shadowattn or run `shadowattn profile` again"),
        (_set("version", 1), "version 1 does not say with how many threads and in which mode .* profile` again"),
        (_set("extra", 1), "unknown field 'extra'"),
        (lambda raw: raw.pop("cpu"), "field 'cpu' is missing"),
        (lambda raw: raw.pop("bundle"), "bundle is missing"),
        (lambda raw: raw.pop("conditions"), "wanted bundle and conditions .* together, conditions is missing"),
        (_set("conditions", "num_threads", 0), "conditions: num_threads must be at least 1, got 0"),
        (_set("conditions", "num_threads", "2"), "conditions: num_threads: expected int, got '2'"),
        (_set("conditions", {"mode": "shadow"}), "conditions: field 'num_threads' is missing"),
        (_set("simulated", 1), "simulated: expected bool, got 1"),
        (_set("launch", 0, "heads", 1.5), r"launch\[0\]: heads: expected int, got 1.5"),
        (_set("launch", 0, "seconds", 0), "launch: seconds must be positive and finite, got 0"),
        (_set("launch", 0, "seconds", float("nan")), "launch: seconds must be positive and finite, got nan"),
        (_set("cpu", 0, "attend_seconds", float("inf")), "cpu: attend_seconds must be positive and finite, got inf"),
        (_set("cpu", 0, "handover_seconds", -1), "cpu: handover_seconds must be positive and finite, got -1"),
        (_set("cpu", 0, "kv_len", 10**400), "cpu: kv_len must be positive and finite, got 1000"),
        (_set("append", 0, "chunk", -1), "append: chunk must be positive and finite, got -1"),
        (_set("launch", 0, "heads", 3), r"launch: two entries for \(128, 1024, 3\)"),
        (_set("bundle", None), "expected an object, got NoneType"),
    ],
)
def test_damaged_profiles(change: Callable[[dict[str, Any]], None], message: str) -> None:
    raw = json.loads(measured().to_json())
    change(raw)
    with pytest.raises(ValueError, match=f"^here: .*{message}"):
        LatencyProfile.from_json(json.dumps(raw), "here")


def test_files_that_are_no_profile(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read as a latency profile"):
        read_profile(tmp_path / "nothing.json")
    path = tmp_path / "profile.json"
    for content, message in ((b"\xff\xfe", "cannot be read"), (b"{", "not valid JSON"), (b"[]", "not a latency")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_profile(path)


def test_a_problem_from_a_profile() -> None:
    """1 and 3 of the profile's heads are groups of 9 heads in units of 3; the paper's 4 is none."""
    given = problem(measured(), model(), Shape(128, 2048, 2000), [0] * 9, depth=3)
    assert given.launch_seconds == {1: 0.003, 3: 0.004}
    assert given.depth == 3
    assert given.cpu_seconds([0, 1]) == pytest.approx(2 * (0.0002 + 0.0015))
    check(given, plan(given))
    published = read_profile(SNAPDRAGON_8_GEN_3).with_cpu_of(measured())
    assert set(problem(published, model(), Shape(128, 2048, 2000), [0] * 9).launch_seconds) == {1, 2}
    assert set(problem(published, model(8, 2), Shape(128, 2048, 2000), [0] * 8).launch_seconds) == {1, 2, 4}
    fours = dataclasses.replace(published, launch=published.launch[2:])
    with pytest.raises(ValueError, match="launches of 4 heads, none is a group of 9 heads in units of 3"):
        problem(fours, model(), Shape(128, 2048, 2000), [0] * 9)
