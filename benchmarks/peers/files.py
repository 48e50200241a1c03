"""Where a peer's environment and its form of the model lie. Standard library only: every peer's process imports it."""

from pathlib import Path

PEERS_DIR = Path("build/peers")  # $PEERS_DIR names another
MODELS = "models"  # below PEERS_DIR
HUGGING_FACE = "hugging_face"
GGUF_Q8_0 = "q8_0.gguf"
OPENVINO = "openvino_int8"
_LITERT_LM = "litert_lm_{}"  # by the positions of its cache
_LITERT_LM_FILE = "model.litertlm"


def litert_lm_folder(models: Path, positions: int) -> Path:
    return models / _LITERT_LM.format(positions)


def litert_lm_file(models: Path, positions: int) -> Path:
    """The export with the smallest cache that holds so many positions. Raises ValueError if all are too small."""
    found = {int(path.parent.name.rsplit("_", 1)[1]): path for path in models.glob(f"*/{_LITERT_LM_FILE}")}
    fitting = [cache for cache in found if cache >= positions]
    if not fitting:
        raise ValueError(
            f"{models}: wanted an export for LiteRT-LM that holds {positions:,} positions, got caches of "
            f"{sorted(found)}; make one with --caches={positions} of peers.models (benchmarks/peers/set_up.sh)"
        )
    return found[min(fitting)]
