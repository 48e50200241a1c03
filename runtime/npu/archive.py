"""estimates.zip, or a file like it: one model file per estimate graph, stored uncompressed (models/estimate_graphs.py).

Opened once; a graph is read when it is asked for.
"""

import zipfile
from pathlib import Path

from shadowattn.models.estimate_graphs import EstimateKey

_SUFFIX = ".tflite"


class EstimateArchive:
    """The graphs of one zip. `source` is what its messages advise to do, for instance "convert the model again"."""

    def __init__(self, path: Path, advice: str) -> None:
        """Raises ValueError if it is missing or no zip, or holds no estimate graph."""
        self._path = path
        self._advice = advice
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise ValueError(f"{path}: there is no such file, so there are no estimate graphs; {advice}") from None
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror or error}; {advice}") from None
        except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: is no readable zip ({error}); {advice}") from None
        self.keys = sorted(key for name in self._zip.namelist() if (key := _key(name)))
        if not self.keys:
            self._zip.close()
            raise ValueError(f"{path}: holds no estimate_<T>_<S>_<heads>_<bucket>{_SUFFIX}; {advice}")

    def read(self, key: EstimateKey) -> bytes:
        """The model file of a graph. Raises ValueError: it is missing, damaged, or compressed."""
        name = key.name + _SUFFIX
        try:
            entry = self._zip.getinfo(name)
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{self._path}: {name} is compressed, wanted it stored; {self._advice}")
            return self._zip.read(entry)
        except KeyError:
            raise ValueError(f"{self._path}: {self._missing(key)}; {self._advice}") from None
        except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, NotImplementedError) as error:
            raise ValueError(f"{self._path}: {name} is damaged ({error}); {self._advice}") from None

    def close(self) -> None:
        self._zip.close()

    def _missing(self, key: EstimateKey) -> str:
        """What there is, in as few words as the grid allows."""
        alike = [k.seq_len for k in self.keys if (k.chunk, k.heads, k.bucket) == (key.chunk, key.heads, key.bucket)]
        if alike:
            return f"lacks {key.name}: a grid that lacks length {key.seq_len}, it has {_list(alike)}"
        fields = ("chunk", "seq_len", "heads", "bucket")
        values = (f"{name} {_list([getattr(k, name) for k in self.keys])}" for name in fields)
        return f"lacks {key.name}; its graphs are of {', '.join(values)}"


def _key(name: str) -> EstimateKey | None:
    """None for other files of the zip."""
    if not name.endswith(_SUFFIX):
        return None
    try:
        return EstimateKey.parse(name.removesuffix(_SUFFIX))
    except ValueError:
        return None


def _list(values: list[int]) -> str:
    return ", ".join(map(str, sorted(set(values))))
