"""Opens and closes sessions of one bundle over and over, alone in a process: prints what a cycle adds to its resident
memory, for sessions that share an engine (a cache each) and for engines."""

import json
from pathlib import Path

from resident_growth import cycle_arguments, growth, leaking

from shadowattn.runtime import Session
from shadowattn.runtime.executor.engine import num_engines


def main() -> None:
    arguments = cycle_arguments("bundle")
    bundle, leak = Path(arguments.bundle), arguments.leak

    def cycle() -> None:
        with Session.open(bundle) as session:
            session.prefill([1, 2, 3, 4])

    with Session.open(bundle) as keeper:
        found = {"sessions": growth(leaking(cycle, leak), 200)}
        assert keeper._engine.shadow.num_caches == 1
    assert num_engines() == 0
    found["engines"] = growth(leaking(cycle, leak), 20)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
