"""Host and port: whether a server can listen there, and the URL for clients."""

import errno
import socket

from service.cli.processes import StartError

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


def check_port(host: str, port: int, setting: str = "PORT", host_setting: str = "HOST") -> None:
    """Raises StartError, with the settings' names, if a server cannot listen on host and port."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(address)
    except OSError as error:
        raise StartError(_explain(error, (host, host_setting), (port, setting))) from error
    except UnicodeError as error:  # not a valid DNS name
        raise StartError(_unknown_host(host, host_setting, "not a host name")) from error


def check_metrics_port(port: int | None, host: str, api_port: int) -> None:
    """Raises StartError if the API on `api_port` cannot serve /metrics on this METRICS_PORT."""
    if port is None:
        return
    if port == api_port:
        raise StartError(f"METRICS_PORT is {port}, the API's own port: choose another one.")
    check_port(host, port, "METRICS_PORT")


def _explain(error: OSError, named_host: tuple[str, str], named_port: tuple[int, str]) -> str:
    (host, host_setting), (port, setting) = named_host, named_port
    title = setting if setting != "PORT" else "Port"
    if error.errno == errno.EADDRINUSE:
        return (
            f"{title} {port} on {host} is taken: stop the program that uses it, or set {setting} "
            "to another one."
        )
    if error.errno == errno.EACCES:
        return f"{title} {port} needs more rights than we have: set {setting} to one above 1023."
    return _unknown_host(host, host_setting, error.strerror or str(error))


def _unknown_host(host: str, setting: str, reason: str) -> str:
    return (
        f"{setting} {host} is not an address of this machine ({reason}): "
        f"set {setting} to one that is, such as 127.0.0.1 or 0.0.0.0."
    )


def make_url(host: str, port: int) -> str:
    """The URL of a server at host and port."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def find_reachable_host(host: str) -> str:
    """The host under which clients on this machine reach a server that listens on `host`."""
    return _ANY.get(host, host)
