"""Certificates of an authority of a test's own, made by the openssl command."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2")
LOCAL = "subjectAltName=IP:127.0.0.1,DNS:localhost"


class Certificate(NamedTuple):
    """A certificate and its private key, as PEM files."""

    certificate: Path
    key: Path

    def together(self, *others: Path) -> Path:
        """Return one PEM file with the key, the certificate, and the content of other files."""
        path = self.key.with_suffix(".together.pem")
        path.write_text("".join(part.read_text() for part in (self.key, self.certificate, *others)))
        return path


def authority(folder: Path) -> Certificate:
    """Make an authority in a folder. Skips the test if the machine has no openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    return _make(folder, "ca", "-nodes", "-x509", "-addext", "keyUsage=critical,keyCertSign")


def issue(ca: Certificate, name: str, password: str = "") -> Certificate:
    """Issue a certificate for this machine, with `name` as its subject. A `password` encrypts its key."""
    protection = ("-passout", f"pass:{password}") if password else ("-nodes",)
    signer = ("-x509", "-CA", str(ca.certificate), "-CAkey", str(ca.key), "-addext", LOCAL)
    return _make(ca.key.parent, name, *protection, *signer, "-addext", "basicConstraints=CA:FALSE")


def _make(folder: Path, name: str, *options: str) -> Certificate:
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    files = ("-subj", f"/CN={name}", "-out", str(made.certificate), "-keyout", str(made.key))
    done = subprocess.run(["openssl", "req", *KEY, *options, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return made
