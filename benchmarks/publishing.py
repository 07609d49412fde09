"""The publisher's process: takes orders as lines of JSON, answers each when it is carried out.

python -m benchmarks.publishing MODULE PLACE
"""

import json
import sys
import time
from importlib import import_module

from benchmarks.peers.sources import Order, Place, Source


def main() -> None:
    module, place = sys.argv[1:]
    source: Source = import_module(module).open_source(Place(**json.loads(place)))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = Order(**json.loads(line))
        began = time.perf_counter()
        source.tokens(order)
        print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)


if __name__ == "__main__":
    main()
