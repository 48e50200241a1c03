"""Finding and loading the delegate library, its ABI, and the signatures it leaves alone."""

import shutil
from pathlib import Path

import pytest

from shadowattn.models.bundle import MODEL
from shadowattn.runtime import Session
from shadowattn.runtime.litert import delegate
from shadowattn.runtime.litert import interpreter as litert
from shadowattn.runtime.litert.delegate import ENVIRONMENT, ShadowDelegate, ShadowLibrary, library_path
from shadowattn.runtime.session.settings import parse_settings


def test_the_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    copy = shutil.copy(library_path(), tmp_path / "copy.so")
    monkeypatch.setenv(ENVIRONMENT, str(copy))
    assert library_path() == Path(copy).resolve()


def test_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: Path) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "gone.so"))
    with pytest.raises(ValueError, match=r"gone.so: there is no such file; correct or unset the variable"):
        Session.open(tiny)
    monkeypatch.delenv(ENVIRONMENT)
    monkeypatch.setattr(delegate, "LIBRARY", "libnowhere.so")
    with pytest.raises(ValueError, match=r"libnowhere.so is missing \(looked at .*\); install shadowattn with pip"):
        library_path()


def test_not_a_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "text.so").write_text("not ELF")
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "text.so"))
    with pytest.raises(ValueError, match=r"text.so: cannot be loaded \(.*\); build it again for this machine"):
        Session.open(tiny)


def test_another_library() -> None:
    other = next(Path("/").glob("lib/*-linux-gnu/libm.so.6"))
    with pytest.raises(ValueError, match="is not the delegate of shadowattn"):
        ShadowLibrary(other)


def test_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = delegate.ABI_VERSION
    monkeypatch.setattr(delegate, "ABI_VERSION", ours + 1)
    with pytest.raises(ValueError, match=f"its ABI version is {ours}, wanted {ours + 1}"):
        ShadowLibrary(library_path())


def test_facts() -> None:
    library = ShadowLibrary(library_path())
    assert "\n" not in library.build_info
    assert library.best_isa
    with pytest.raises(ValueError, match="there is no such delegate"):
        library.isa(0)


@pytest.mark.parametrize(
    "options",
    [
        {"colour": "red"},
        {"num_threads": "many"},
        {"keep_ratio": "0"},
        {"threshold": "1"},
        {"compensate": "no"},
        {"isa": "sse9"},
    ],
)
def test_refuses_options(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=f"delegate refused its options: .*{next(iter(options))}"):
        litert.load_delegate(library_path(), options)


def test_caches_through_the_abi() -> None:
    plugin = litert.load_delegate(library_path(), {"mode": "dense"})
    shadow = ShadowDelegate(ShadowLibrary(library_path()), litert.delegate_pointer(plugin))
    library = ShadowLibrary(library_path())
    settings = parse_settings(library.cache_defaults).changed(mode="dense", max_length=100)
    handles = [shadow.create_cache(settings.creation_text()) for _ in range(3)]
    assert len(set(handles)) == 3
    assert shadow.num_caches == 3
    assert shadow.cache_length(handles[0]) == 0
    shadow.destroy_cache(handles[1])
    with pytest.raises(ValueError, match=str(handles[1])):
        shadow.cache_length(handles[1])
    with pytest.raises(ValueError, match="colour"):
        shadow.configure_cache(handles[0], "colour=red")
    with pytest.raises(ValueError):
        shadow.rewind_cache(handles[0], 5)
    assert shadow.cache_stats(handles[2]).rows == 0


def test_a_signature_that_was_not_asked_for(tiny: Path) -> None:
    """The delegate claims it whole, so that XNNPACK packs no weights for it; running it says so."""
    plugin = litert.load_delegate(library_path(), {"mode": "dense"})
    shadow = ShadowDelegate(ShadowLibrary(library_path()), litert.delegate_pointer(plugin))
    shadow.set_signatures(["decode"])
    graphs = litert.GraphSet(tiny / MODEL, plugin, 1)
    inputs = graphs.runner("decode").inputs
    for name, value in (("tokens", 1), ("position", 0), ("n_valid", 1), ("cache", 0)):
        inputs[name].fill(value)
    graphs.runner("decode").invoke()
    with pytest.warns(RuntimeWarning, match="prefill_4: 15 matrix products"):
        other = graphs.runner("prefill_4")
    other.inputs["tokens"].fill(1)
    with pytest.raises(RuntimeError, match=r"prefill_4.*was not opened"):
        other.invoke()
    runners = {name: {node.runner for node in nodes} for name, nodes in graphs.nodes().items()}
    assert runners["prefill_4"] == {"shadow", "litert builtin"}  # one node is left over, or XNNPACK never comes
    assert "xnnpack" in runners["decode"]
    graphs.close()


def test_default_settings_are_the_librarys() -> None:
    """The text is one that shadow_cache_create takes, and Python adds no default of its own."""
    text = ShadowLibrary(library_path()).cache_defaults
    settings = parse_settings(text)
    assert (settings.mode, settings.keep_ratio, settings.compensate) == ("shadow", "auto", True)
    assert dict(item.split("=") for item in settings.creation_text().split(";")).keys() == {
        item.split("=")[0] for item in text.split(";")
    }
    assert parse_settings(settings.creation_text()) == settings
    with pytest.raises(ValueError, match="lack 'sinks'; reinstall shadowattn"):
        parse_settings(text.replace("sinks=1;", ""))


def test_isa_levels_are_the_librarys() -> None:
    library = ShadowLibrary(library_path())
    assert library.isa_levels[0] == "scalar"
    assert library.best_isa in library.isa_levels
