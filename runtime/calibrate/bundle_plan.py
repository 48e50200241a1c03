"""A new plan for a finished bundle: plan.bin and the manifest that states its hash, replaced together."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shadowattn.models.bundle import MANIFEST, file_info, read_manifest
from shadowattn.models.plan import FILE_NAME, Plan

NOTE = "budgets"  # of the manifest's `calibration`


def read_plan(bundle: Path) -> Plan:
    """Raises ValueError."""
    return Plan.from_bytes((bundle / FILE_NAME).read_bytes(), str(bundle / FILE_NAME))


def write_plan(plan: Plan, path: Path) -> None:
    """A plan file by itself. Raises OSError."""
    _write_aside(path, plan.to_bytes())
    os.replace(_aside(path), path)


def replace_plan(bundle: Path, plan: Plan, note: Mapping[str, Any]) -> None:
    """Both files are written and flushed before the first is renamed; what fails in between takes the old ones back.
    Raises OSError."""
    plan_path, manifest_path = bundle / FILE_NAME, bundle / MANIFEST
    before = plan_path.read_bytes()
    try:
        _write_aside(plan_path, plan.to_bytes())
        _write_aside(manifest_path, _manifest_with(bundle, _aside(plan_path), note).encode())
        try:
            os.replace(_aside(plan_path), plan_path)
            os.replace(_aside(manifest_path), manifest_path)
        except BaseException:
            if _aside(manifest_path).exists():
                plan_path.write_bytes(before)
            raise
    finally:
        for path in (plan_path, manifest_path):
            _aside(path).unlink(missing_ok=True)


def _manifest_with(bundle: Path, plan_file: Path, note: Mapping[str, Any]) -> str:
    manifest = read_manifest(bundle)
    files = {**manifest.files, FILE_NAME: file_info(plan_file)}
    calibration = {**manifest.calibration, NOTE: json.loads(json.dumps(note))}
    return dataclasses.replace(manifest, files=files, calibration=calibration).to_json()


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _write_aside(path: Path, data: bytes) -> None:
    with _aside(path).open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
