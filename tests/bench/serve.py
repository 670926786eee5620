"""`python -m tests.bench.serve MODULE PORT PROCESSES`: another app, run by plain uvicorn.

The options are those of `leadlog serve` (service/cli/commands/serve.py), except for the protocol:
`leadlog serve` uses its own (service/http/server/protocol.py).
"""

import sys

import uvicorn


def main(module: str, port: int, processes: int) -> None:
    uvicorn.run(
        f"tests.bench.{module}:create_app",
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
