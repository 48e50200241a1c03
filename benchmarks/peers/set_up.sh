#!/bin/sh
# A virtual environment per peer and every model file, below $PEERS_DIR (default: build/peers).
#
#     benchmarks/peers/set_up.sh [openvino] [litert_lm] [llama_cpp]      # default: all of them
#
# torch is no peer to set up: it comes with the converter. About 12 GB and, as llama.cpp is compiled here, half an hour
# on two cores. Needs a C++ compiler, and .venv as `make demo` makes it. What is there already is kept.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
export PEERS_DIR="${PEERS_DIR:-$root/build/peers}"
python=${PYTHON:-"$root/.venv/bin/python"}
mkdir -p "$PEERS_DIR"

# make_venv NAME PACKAGE...; a file .installed in it says that pip was through.
make_venv() {
    venv="$PEERS_DIR/venv_$1"; shift
    [ -e "$venv/.installed" ] && return
    echo "installing $* into $venv"
    "$python" -m venv "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check "$@"
    touch "$venv/.installed"
}

# torch by its exact version: a looser requirement may bring gigabytes of another build.
for peer in ${@:-openvino litert_lm llama_cpp}; do
    case $peer in
    openvino)
        make_venv openvino torch==2.13.0 openvino==2026.4.1 openvino-genai==2026.4.1.0 nncf==3.4.0 optimum-intel==2.2.0
        # It comes along built for another torch, and breaks transformers.
        "$PEERS_DIR/venv_openvino/bin/pip" uninstall -q -y torchvision 2>/dev/null || true
        ;;
    litert_lm)
        make_venv litert_lm litert-lm==0.18.1 litert-lm-api==0.18.1 numpy
        make_venv litert_export torch==2.13.0 litert-torch==0.10.0 litert-quantizer==0.11.0 tensorflow-cpu==2.21.0
        ;;
    llama_cpp)
        CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF" \
            make_venv llama_cpp llama-cpp-python==0.3.36 --no-binary llama-cpp-python numpy
        ;;
    *)
        echo "set_up.sh: wanted openvino, litert_lm or llama_cpp, got '$peer'" >&2
        exit 2
        ;;
    esac
done
cd "$root"
PYTHONPATH=benchmarks "$python" -m peers.models --peers_dir="$PEERS_DIR"
