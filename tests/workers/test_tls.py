"""Certificates, checked against the host of the URL."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.rawserver import OK, post, run, say
from workers.connections import Connections


@pytest.mark.parametrize("name", ["127.0.0.1", "127.0.0.9"])
async def test_a_certificate_must_be_for_the_host_of_the_url(tmp_path: Path, name: str) -> None:
    path = make_certificate(tmp_path, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    connections = Connections(private=True)
    connections._dialer._tls = ssl.create_default_context(cafile=str(path))
    async with run(say(OK), context) as server:
        attempts = [await post(connections, server, scheme="https") for _ in range(2)]
    await connections.close()
    fits = name == "127.0.0.1"
    assert [attempt.error for attempt in attempts] == [None if fits else "certificate"] * 2
    assert server.requests == ([2] if fits else [])


def make_certificate(folder: Path, address: str) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hook")])
    now = datetime.now(UTC)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1)).add_extension(alternative, critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ) + certificate.public_bytes(serialization.Encoding.PEM)
    )  # fmt: skip
    return path
