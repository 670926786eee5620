"""`python -m tests.bench.serve APP PORT PROCESSES`: another app, run by uvicorn as it comes.

The flags are those of `leadlog serve` (service/commands/run.py), but for the protocol, which there
is our own (service/http/protocol.py).
"""

import sys

import uvicorn


def main(app: str, port: int, processes: int) -> None:
    uvicorn.run(
        f"tests.bench.{app}:create_app",
        factory=True,
        host="127.0.0.1",
        port=port,
        workers=processes,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=8,
        timeout_keep_alive=65,
        backlog=2048,
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
