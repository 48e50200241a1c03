"""A new plan for a finished bundle, and the manifest that states its hash."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shadowattn.models.bundle import MANIFEST, file_info, read_manifest
from shadowattn.models.plan import FILE_NAME, NEXT_FILE_NAME, Plan

NOTE = "budgets"  # of the manifest's `calibration`


def read_plan(bundle: Path) -> Plan:
    """Raises ValueError."""
    path = bundle / read_manifest(bundle).plan_file
    return Plan.from_bytes(path.read_bytes(), str(path))


def write_plan(plan: Plan, path: Path) -> None:
    """A plan file by itself. Raises OSError."""
    _write(path, plan.to_bytes())


def replace_plan(bundle: Path, plan: Plan, note: Mapping[str, Any]) -> None:
    """The manifest names the old plan or the new one whatever happens in between, for only a file that it does not name
    is written: first plan.next.bin, which the manifest then names, and so plan.bin after it. Raises OSError."""
    manifest = read_manifest(bundle)
    calibration = {**manifest.calibration, NOTE: json.loads(json.dumps(note))}
    for name in (NEXT_FILE_NAME, FILE_NAME) if manifest.plan_file == FILE_NAME else (FILE_NAME,):
        _write(bundle / name, plan.to_bytes())
        files = {file: info for file, info in manifest.files.items() if file != manifest.plan_file}
        files[name] = file_info(bundle / name)
        manifest = dataclasses.replace(manifest, files=files, calibration=calibration)
        _write(bundle / MANIFEST, manifest.to_json().encode())
    (bundle / NEXT_FILE_NAME).unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    """Whole, or not at all."""
    aside = path.with_name(f".{path.name}.new")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
