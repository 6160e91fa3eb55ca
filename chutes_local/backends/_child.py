"""Entry point of the child process: the model engine, or pip. Imports only the standard library and the engine.

The first line on stdin says what to do. Nothing follows it: stdin stays open as a tether. However the parent
ends, the system closes its side and the child exits.
"""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import signal
import sys
import threading
from collections.abc import Mapping
from typing import Any

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Read the job, tie this process to its parent, and do the job."""
    line = sys.stdin.buffer.readline()
    if not line:
        return
    job = json.loads(line)
    die_with_parent(job["parent"])
    if job["job"] == "pip":
        run_pip(job["arguments"])
    else:
        serve_models(job["models"])


def die_with_parent(parent: int) -> None:
    """Make this process end with its parent, even if the parent is killed."""
    # Ctrl-C in a terminal reaches the whole group; the parent decides whether to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_at_end_of_stdin, daemon=True).start()
    if sys.platform == "linux":
        # Faster than the thread, and works while the engine holds the interpreter.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent ended before the signal was set up
            os._exit(0)


def _exit_at_end_of_stdin() -> None:
    while os.read(0, 1024):
        pass
    # Not sys.exit: the engine's destructors can hang.
    os._exit(0)


def run_pip(arguments: list[str]) -> None:
    """Run pip in this process, so that both end together."""
    os.dup2(2, 1)  # its stdout is not read
    sys.argv = ["pip", *arguments]
    runpy.run_module("pip", run_name="__main__", alter_sys=True)


def serve_models(models: Mapping[str, Mapping[str, Any]]) -> None:
    """Serve each model on its own port, report the addresses to the parent, and run until killed."""
    answer = os.dup(1)
    os.dup2(2, 1)  # the engine's own output goes to the log
    servers = {name: _server(settings) for name, settings in models.items()}
    addresses = {name: server.listening_address for name, server in servers.items()}
    os.write(answer, json.dumps(addresses).encode() + b"\n")
    os.close(answer)
    threading.Event().wait()


def _server(settings: Mapping[str, Any]) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    params.n_ctx = settings["context"] * settings["slots"]
    params.n_parallel = settings["slots"]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [settings["key"]]
    params.n_gpu_layers = 0  # 135M parameters finish before a GPU has started
    params.fit_params = False
    params.ui = False
    params.warmup = False
    params.cache_ram_mib = 0
    params.verbosity = 1
    if settings["embedding"]:
        params.embedding = True
        params.n_batch = params.n_ubatch = settings["context"]  # each text is embedded in one batch
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
