"""Third-party clients and proxies, if they are installed, with and without an Upgrade header."""

import asyncio
import secrets
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.harness.api_client import Api
from tests.loopback.raw_http import connect, make_request
from tests.service.http.server.test_upgrades import (
    UPGRADE_HEADERS,
    count_leads,
    make_lead,
    make_message,
)

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  upstream leadlog {{ server {upstream}; keepalive 4; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://leadlog; proxy_http_version 1.1; proxy_request_buffering off;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection;
    }}
  }}
}}
"""
CADDY = """
{{
  admin off
  auto_https off
  storage file_system {folder}
}}
http://:{port} {{
  bind 127.0.0.1
  reverse_proxy {upstream}
}}
"""
JAVA = """
import java.net.URI;
import java.net.http.*;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;

public class Post {
  public static void main(String[] given) throws Exception {
    HttpClient client = HttpClient.newHttpClient();
    for (int n = 2; n < given.length; n++) {
      HttpRequest request = HttpRequest.newBuilder(URI.create(given[0] + "/v1/leads"))
        .header("Authorization", "Bearer " + given[1]).header("Content-Type", "application/json")
        .POST(BodyPublishers.ofString(given[n])).build();
      System.out.println(client.send(request, BodyHandlers.ofString()).statusCode());
    }
  }
}
"""


def find_program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def find_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port


async def run(*argv: str) -> str:
    """Runs a program, which must succeed, and returns its output."""
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(100):
        output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


@asynccontextmanager
async def run_proxy(name: str, api: Api, folder: Path) -> AsyncIterator[str]:
    """Runs a proxy in front of the service and yields the proxy's address."""
    program, port = find_program(name), find_port()
    config = folder / f"{name}.conf"
    text = {"nginx": NGINX, "caddy": CADDY}[name]
    upstream = urlsplit(api.url).netloc
    config.write_text(text.format(folder=folder, port=port, upstream=upstream))
    argv = {
        "nginx": ["-c", str(config), "-p", str(folder), "-e", str(folder / "error.log")],
        "caddy": ["run", "--config", str(config), "--adapter", "caddyfile"],
    }[name]
    process = await asyncio.create_subprocess_exec(
        program, *argv, stderr=asyncio.subprocess.DEVNULL, env={"HOME": str(folder)}
    )
    try:
        async with asyncio.timeout(30):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                assert process.returncode is None
                await asyncio.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.parametrize("name", ["nginx", "caddy"])
async def test_nothing_is_smuggled_through_a_proxy(api: Api, tmp_path: Path, name: str) -> None:
    before = await count_leads(api)
    stolen = make_request("POST", "/v1/leads", key=api.key, body=make_lead())
    prefix = b"GET /v1/leads/lead_smuggled HTTP/1.1\r\nX-Prefix: "
    async with run_proxy(name, api, tmp_path) as url:
        for wish in UPGRADE_HEADERS.values():
            for how in ("length", "chunks"):
                for body in (stolen, prefix):
                    attack = make_message("GET", "/health/live", wish, str(api.key), body, how)
                    async with connect(url) as wire:
                        await wire.send(attack[:-9])
                        await asyncio.sleep(0.02)
                        await wire.send(attack[-9:])
                        answer = await wire.read_response()
                        assert answer.status == 400 or "x-request-id" in answer.headers
                    for n in range(3):  # the next users of the proxy's connection
                        async with connect(url) as wire:
                            mine = f"X-Request-Id: mine-{n}"
                            await wire.send(make_request("GET", "/health/live", mine))
                            answer = await wire.read_response()
                            assert answer.status == 200
                            assert answer.headers["x-request-id"] == f"mine-{n}"
        assert await count_leads(api) == before
        created = await Api(url, api.session, api.tenant, api.key).call(
            "POST", "/v1/leads", make_lead(), headers={"Connection": "Upgrade", "Upgrade": "h2c"}
        )
        assert created.status == 201
    assert await count_leads(api) == before + 1


async def test_curl_that_asks_for_http_2_creates_leads(api: Api) -> None:
    argv = [
        find_program("curl"), "-s", "--http2", "-o", "/dev/null", "-w", "%{http_code} ",
        "-H", f"Authorization: Bearer {api.key}", "-H", "Content-Type: application/json",
    ]  # fmt: skip
    url = f"{api.url}/v1/leads"
    twice = ["-d", make_lead().decode(), url, "--next", *argv[1:], "-d", make_lead().decode(), url]
    assert (await run(*argv, *twice)).split() == ["201", "201"]


async def test_the_client_of_the_jdk_creates_leads(api: Api, tmp_path: Path) -> None:
    program = tmp_path / "Post.java"
    program.write_text(JAVA)
    leads = [f'{{"email": "{secrets.token_hex(8)}@java.example.com"}}' for _ in range(3)]
    java = find_program("java")
    assert (await run(java, str(program), api.url, str(api.key), *leads)).split() == ["201"] * 3
