"""The host's name, the ports that Ray likes, proxies."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

from deploy.doctor.finding import Finding

AREA = "network"
PORTS = {6379: "Ray's head", 8265: "Ray's dashboard", 10001: "Ray's client server"}


def look() -> Iterator[Finding]:
    """Look for what keeps processes of one run from finding each other."""
    try:
        address = socket.gethostbyname(socket.gethostname())
        yield Finding(area=AREA, name="host name", found=f"{socket.gethostname()} is {address}")
    except OSError:
        yield Finding(
            area=AREA,
            name="host name",
            found=f"{socket.gethostname()} resolves to nothing: gloo cannot connect ranks by it",
            level="note",
            remedy="add it to /etc/hosts, or set GLOO_SOCKET_IFNAME (lo on one machine)",
        )
    used = [port for port in PORTS if _answers(port)]
    names = ", ".join(f"{port} ({PORTS[port]})" for port in used)
    yield Finding(
        area=AREA,
        name="ports",
        found=f"in use: {names}" if used else f"{', '.join(map(str, PORTS))} are free",
        level="note" if used else "ok",
        remedy='a Ray cluster seems to run: join it by cluster.address = "auto"; a run without an '
        "address starts its own on other ports"
        if used
        else "",
    )
    proxies = [name for name in ("http_proxy", "HTTP_PROXY", "grpc_proxy") if os.environ.get(name)]
    around = os.environ.get("no_proxy", "") + os.environ.get("NO_PROXY", "")
    if proxies and "127.0.0.1" not in around:
        yield Finding(
            area=AREA,
            name="proxy",
            found=f"{', '.join(proxies)} set, and no_proxy does not except 127.0.0.1",
            level="note",
            remedy="export no_proxy=127.0.0.1,localhost: Ray's own calls would go to the proxy",
        )


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
