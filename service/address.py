"""Host and port: whether we may listen there, and how others call it."""

import errno
import socket

from service.processes import StartError

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


def check_port(host: str, port: int) -> None:
    """Raises StartError unless a server could listen on host and port now."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(address)
    except OSError as error:
        raise StartError(_explain(error, host, port)) from error
    except UnicodeError as error:  # no name that the DNS could hold
        raise StartError(_unknown_host(host, "not a host name")) from error


def _explain(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is taken: stop the program that uses it, or set PORT to "
            "another one."
        )
    if error.errno == errno.EACCES:
        return f"Port {port} needs more rights than we have: set PORT to one above 1023."
    return _unknown_host(host, error.strerror or str(error))


def _unknown_host(host: str, reason: str) -> str:
    return f"HOST {host} is no address of this machine ({reason}): set HOST to one that is."


def make_url(host: str, port: int) -> str:
    """The address as a browser takes it."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def find_reachable_host(host: str) -> str:
    """Where a client on this machine reaches a server that listens on `host`."""
    return _ANY.get(host, host)
