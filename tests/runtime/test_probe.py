"""The one-op model that `shadowattn doctor` runs: the file in the package is what this test writes.

`python tests/runtime/test_probe.py` writes it anew.
"""

from flat_graph import FlatModel

from shadowattn.models.op_options import SPARSE_ATTENTION, OpOptions
from shadowattn.runtime.litert.probe import HEAD_DIM, HEADS, KV_HEADS, MODEL, ROWS, SIGNATURE


def probe_model() -> bytes:
    model = FlatModel()
    graph = model.graph(SIGNATURE)
    heads = {"q": HEADS, "k": KV_HEADS, "v": KV_HEADS}
    inputs = [graph.input(name, [1, ROWS, count, HEAD_DIM]) for name, count in heads.items()]
    inputs += [graph.input(name, [1], "int32") for name in ("position", "n_valid", "cache")]
    options = OpOptions(0, 1, HEADS, KV_HEADS, HEAD_DIM, HEAD_DIM**-0.5)
    outputs = [([1, ROWS, HEADS * HEAD_DIM], "float32", None)]
    (o,) = graph.custom(SPARSE_ATTENTION, inputs, outputs, options.pack())
    graph.finish({"o": o})
    return model.to_bytes()


def test_the_packaged_probe_is_what_is_written_here() -> None:
    assert MODEL.read_bytes() == probe_model()


if __name__ == "__main__":
    MODEL.write_bytes(probe_model())
