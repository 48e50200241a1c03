"""Latency profiles: reading strictly, looking up between lengths, and whose they are."""

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from pipelines import invented_profile

from shadowattn.models.bundle import read_manifest
from shadowattn.runtime.pipeline.profile import LaunchTime, default_path, find_profile, read_profile


def test_round_trip(tiny: Path, tmp_path: Path) -> None:
    profile, path = invented_profile(tiny), tmp_path / "profile.json"
    path.write_text(profile.to_json(), "utf-8")
    assert read_profile(path) == profile


def test_costs_by_hand(tiny: Path) -> None:
    """Two heads are known at one length; the overhead counts for the longer stage."""
    launch = (
        LaunchTime(1024, 1000, 1, 1.0, 5.0, 0.5),
        LaunchTime(2048, 2000, 1, 3.0, 9.0, 0.5),
        LaunchTime(2048, 2000, 2, 7.0, 2.0, 0.5),
    )
    profile = dataclasses.replace(invented_profile(tiny), launch=launch)
    assert profile.costs(2048, 2000) == {1: (3.0, 9.5), 2: (7.5, 2.0)}
    assert profile.costs(1536, 1500) == {1: (2.0, 7.5), 2: (7.5 * 1536 / 2048, 1.5)}  # on a straight line
    assert profile.costs(512, 500) == {1: (0.5, 2.75), 2: (7.5 / 4, 0.5)}  # beyond: in proportion
    assert profile.costs(4096, 4000) == {1: (6.0, 19.0), 2: (15.0, 4.0)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not a latency profile"),
        ({"version": 2}, "profile version 2, wanted 4; run `shadowattn profile` again"),
        ({"extra": 1}, "unknown field 'extra'"),
        ({"chunk": ...}, "field 'chunk' is missing"),
        ({"num_threads": 0}, "profile: num_threads must be positive and finite, got 0"),
        ({"num_threads": "2"}, "num_threads: expected int, got '2'"),
        ({"launch": []}, "launch is empty"),
        ({"heads": 1.5}, r"launch\[0\]: heads: expected int, got 1.5"),
        ({"attend_seconds": 0}, "launch: attend_seconds must be positive and finite, got 0"),
        ({"overhead_seconds": -1}, "launch: overhead_seconds must be positive and finite, got -1"),
        ({"estimate_seconds": float("nan")}, "estimate_seconds must be positive and finite, got nan"),
        ({"attend_seconds": float("inf")}, "attend_seconds must be positive and finite, got inf"),
        ({"kv_len": 10**400}, "launch: kv_len must be positive and finite, got 1000"),
    ],
)
def test_damaged_profiles(tiny: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """change: of fields of the file, or of its first launch; ...: the field is missing."""
    raw = json.loads(invented_profile(tiny).to_json())
    place = raw["launch"][0] if change.keys() <= raw["launch"][0].keys() else raw
    place |= change
    path = tmp_path / "here.json"
    path.write_text(json.dumps({key: value for key, value in raw.items() if value is not ...}))
    with pytest.raises(ValueError, match=f"here.json: .*{message}"):
        read_profile(path)


def test_files_that_are_not_a_profile(tmp_path: Path) -> None:
    path, unreadable = tmp_path / "profile.json", "cannot be read as a latency profile"
    with pytest.raises(ValueError, match=unreadable):
        read_profile(path)
    for content, message in ((b"\xff\xfe", unreadable), (b"{", unreadable), (b"[]", "not a latency profile")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_profile(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model_sha256": "ab" * 32},
            r"bundle 'tiny' \(SHA-256 .* abab\w+\), wanted 'tiny' .* with this bundle",
        ),
        (
            {"npu": "delegate x.so"},
            "with delegate x.so, num_threads 2, mode shadow, the session has host INT8",
        ),
        ({"num_threads": 1}, "num_threads 1, mode shadow, the session has host INT8, num_threads 2, mode shadow; run"),
        ({"mode": "shadow_paper"}, r"mode shadow_paper, the session has .* --npu, --num_threads and --mode"),
        (None, r"cannot be read as a latency profile"),
    ],
)
def test_a_profile_of_something_else(tiny: Path, tmp_path: Path, changes: dict[str, Any] | None, message: str) -> None:
    """Asked for: an error. Lying there: a warning, and it is left aside."""
    bundle = tmp_path / "bundle"
    manifest, own = read_manifest(tiny), invented_profile(tiny)

    def find(asked: Path | None) -> object:
        return find_profile(bundle, manifest, "host INT8", 2, "shadow", asked)

    assert find(None) is None
    asked = tmp_path / "asked.json"
    text = "{" if changes is None else dataclasses.replace(own, **changes).to_json()
    for path in (asked, default_path(bundle)):
        path.write_text(text)
    with pytest.raises(ValueError, match=rf"asked\.json: .*{message}"):
        find(asked)
    with pytest.warns(RuntimeWarning, match=rf"bundle\.profile\.json is not used: .*{message}"):
        assert find(None) is None
    default_path(bundle).write_text(own.to_json())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find(None) == own
