"""Write aside, then rename: killed at any moment, a conversion leaves the finished bundle or nothing like one."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shadowattn.converter import workspace
from shadowattn.converter.workspace import check_output, remove_leftovers, written_aside
from shadowattn.models.bundle import FORMAT, MANIFEST

ROOT = Path(__file__).resolve().parent.parent.parent

# Writes a "bundle" and kills itself at a numbered moment: 0 folder made, 1 half written, 2 whole, 3 after the first
# rename (of the new bundle, or of the old one that it replaces), 4 after the second.
_KILLED = """
import os, signal, sys
from pathlib import Path
from shadowattn.converter.workspace import written_aside
moment, output = int(sys.argv[1]), Path(sys.argv[2])
def die(): os.kill(os.getpid(), signal.SIGKILL)
renames = 0
real = Path.rename
def rename(self, target):
    global renames
    result = real(self, target)
    renames += 1
    if moment == 2 + renames: die()
    return result
Path.rename = rename
with written_aside(output, overwrite=True) as folder:
    if moment == 0: die()
    (folder / "model.tflite").write_bytes(b"new" * 1000)
    if moment == 1: die()
    (folder / "manifest.json").write_text("new")
    if moment == 2: die()
"""


def content(output: Path) -> str | None:
    """ "new", or the name in the manifest of a bundle made here."""
    if not output.exists():
        return None
    text = (output / MANIFEST).read_text()
    return str(json.loads(text)["name"]) if text.startswith("{") else text


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def run_killed(moment: int, output: Path) -> int:
    done = subprocess.run([sys.executable, "-c", _KILLED, str(moment), str(output)], cwd=ROOT, check=False)
    return done.returncode


def write_bundle(folder: Path, name: str) -> None:
    """Just enough of a bundle to be replaced: a manifest that lists one file, and that file."""
    folder.mkdir(exist_ok=True)
    (folder / "model.tflite").write_bytes(b"model")
    (folder / MANIFEST).write_text(json.dumps({"format": FORMAT, "name": name, "files": {"model.tflite": {}}}))


def make_bundle(output: Path, name: str, overwrite: bool = False) -> None:
    with written_aside(output, overwrite) as folder:
        write_bundle(folder, name)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("moment", "after"), [(0, None), (1, None), (2, None), (3, "new")])
def test_killed_while_writing_a_new_bundle(moment, after, tmp_path):
    output = tmp_path / "a.bundle"
    assert run_killed(moment, output) == -signal.SIGKILL
    assert content(output) == after
    assert visible(tmp_path) == (["a.bundle"] if after else [])
    remove_leftovers(output)
    assert content(output) == after
    assert sorted(path.name for path in tmp_path.iterdir()) == (["a.bundle"] if after else [])


@pytest.mark.parametrize(("moment", "at_once", "after"), [(2, "old", "old"), (3, None, "old"), (4, "new", "new")])
def test_killed_while_replacing_a_bundle(moment, at_once, after, tmp_path):
    output = tmp_path / "a.bundle"
    make_bundle(output, "old")
    assert run_killed(moment, output) == -signal.SIGKILL
    assert content(output) == at_once
    remove_leftovers(output)  # what the next run does first
    assert content(output) == after
    assert [path.name for path in tmp_path.iterdir()] == ["a.bundle"]


def test_not_killed_leaves_the_bundle_only(tmp_path):
    assert run_killed(99, tmp_path / "a.bundle") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.bundle"]


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), SystemExit(143)])
def test_an_exception_leaves_nothing(error, tmp_path):
    def fail() -> None:
        with written_aside(tmp_path / "a.bundle") as folder:
            (folder / "model.tflite").write_bytes(b"half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_ends_in_one_sentence(tmp_path):
    def fill() -> None:
        with written_aside(tmp_path / "a.bundle"):
            Path("/dev/full").write_bytes(b"x" * 100_000)

    with pytest.raises(ValueError, match=r"a\.bundle: the disk became full while writing; nothing was kept"):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_running_conversion_are_kept(tmp_path):
    output = tmp_path / "a.bundle"
    with written_aside(output) as folder:
        (folder / MANIFEST).write_text("first")
        remove_leftovers(output)
        assert folder.is_dir()
    assert content(output) == "first"


def test_a_killed_conversion_leaves_no_bundle(tiny, tmp_path):
    output = tmp_path / "out" / "tiny.bundle"
    output.parent.mkdir()
    program = """
import signal, sys
from shadowattn.converter import convert
from shadowattn.models.bundle import Manifest
def stop(manifest):
    print("all but the manifest is written", flush=True)
    signal.pause()
Manifest.to_json = stop
convert(sys.argv[1], sys.argv[2])
"""
    command = [sys.executable, "-c", program, tiny("llama").path, output]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout.readline() == "all but the manifest is written\n"
        assert any(output.parent.glob(".tiny.bundle.partial-*/*"))
        process.kill()
    assert not output.exists()
    remove_leftovers(output)
    assert list(output.parent.iterdir()) == []


def test_output_that_is_no_bundle_is_never_overwritten(tmp_path):
    output = tmp_path / "notes"
    output.mkdir()
    (output / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="already exists; choose another output or pass --overwrite"):
        check_output(output, overwrite=False)
    with pytest.raises(ValueError, match="is not a bundle, so it is not overwritten"):
        check_output(output, overwrite=True)


def test_output_needs_its_folder(tmp_path):
    with pytest.raises(ValueError, match="does not exist; create it first"):
        check_output(tmp_path / "nowhere" / "a.bundle", overwrite=False)


def test_output_needs_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(workspace.os, "access", lambda *_: False)
    with pytest.raises(ValueError, match="no permission to write"):
        check_output(tmp_path / "a.bundle", overwrite=False)


@pytest.mark.parametrize(
    "manifest",
    ['{"manifest_version": 3, "name": "an extension"}', "{", "[]", "[" * 100_000, f'{{"format": "{FORMAT}"}}'],
    ids=["other", "cut", "list", "deep", "no files"],
)
def test_a_folder_with_some_other_manifest_is_not_overwritten(manifest, tmp_path):
    output = tmp_path / "extension"
    output.mkdir()
    (output / MANIFEST).write_text(manifest)
    with pytest.raises(ValueError, match="is not a bundle, so it is not overwritten"):
        check_output(output, overwrite=True)


def test_a_bundle_that_holds_more_than_its_files_is_not_overwritten(tmp_path):
    output = tmp_path / "a.bundle"
    write_bundle(output, "old")
    check_output(output, overwrite=True)
    (output / "notes.txt").write_text("measured by hand")
    with pytest.raises(ValueError, match=r"also holds notes\.txt, which manifest\.json does not list"):
        check_output(output, overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_that_appears_meanwhile_is_kept(overwrite, tmp_path):
    output = tmp_path / "a.bundle"

    def race() -> None:
        with written_aside(output, overwrite) as folder:
            write_bundle(folder, "new")
            output.mkdir()
            (output / "thesis.txt").write_text("years of work")

    with pytest.raises(ValueError, match="is not overwritten" if overwrite else "appeared while the conversion ran"):
        race()
    assert names(tmp_path) == ["a.bundle"]
    assert names(output) == ["thesis.txt"]


def test_a_bundle_put_back_is_not_replaced_unasked(tmp_path):
    output = tmp_path / "a.bundle"
    make_bundle(output, "old")
    assert run_killed(3, output) == -signal.SIGKILL
    with pytest.raises(ValueError, match="already exists"):
        check_output(output, overwrite=False)
    assert content(output) == "old"


def interrupt_renames(patch: pytest.MonkeyPatch, which: set[int]) -> None:
    """The calls of Path.rename with these numbers raise KeyboardInterrupt instead."""
    real, calls = Path.rename, iter(range(1, 100))

    def rename(self: Path, target: Path) -> Path:
        if next(calls) in which:
            raise KeyboardInterrupt
        return real(self, target)

    patch.setattr(Path, "rename", rename)


def test_an_interrupt_between_the_renames_puts_the_old_bundle_back(tmp_path, monkeypatch):
    output = tmp_path / "a.bundle"
    make_bundle(output, "old")
    interrupt_renames(monkeypatch, {2})
    with pytest.raises(KeyboardInterrupt):
        make_bundle(output, "new", overwrite=True)
    assert content(output) == "old"
    assert names(tmp_path) == ["a.bundle"]


def test_a_replaced_bundle_without_lock_is_put_back(tmp_path, monkeypatch):
    output = tmp_path / "a.bundle"
    make_bundle(output, "old")
    with monkeypatch.context() as patch:
        interrupt_renames(patch, {2, 3})  # the attempt to put it back, too
        with pytest.raises(KeyboardInterrupt):
            make_bundle(output, "new", overwrite=True)
    assert not output.exists()
    remove_leftovers(output)
    assert content(output) == "old"
    assert names(tmp_path) == ["a.bundle"]


@pytest.mark.parametrize(("output", "other"), [("a[b]", "ab"), ("a*", "axe"), ("a", "a.partial-1")])
def test_leftovers_belong_to_one_name(output, other, tmp_path):
    for name in (output, other):
        write_bundle(tmp_path / f".{name}.partial-0001.replaced", name)
        (tmp_path / f".{name}.partial-0001.lock").touch()
    remove_leftovers(tmp_path / output)
    assert content(tmp_path / output) == output
    assert names(tmp_path) == sorted([f".{other}.partial-0001.lock", f".{other}.partial-0001.replaced", output])
