"""TLS between the broker's nodes, and from the command-line tools to their node."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_FILE: Final = "inter_node_tls.config"
_CONTENT: Final = (Path(__file__).parent / "broker_files" / _FILE).read_text(encoding="utf-8")
_SPEAKS: Final = f"-proto_dist inet_tls -ssl_dist_optfile /etc/rabbitmq/{_FILE}"
REREAD: Final = "-ssl ssl_pem_cache_clean 500"
"""Milliseconds after which Erlang looks for changed PEM files, whose renewal and whose CAs it then uses at once.

Erlang reads it from the command line only: TLS between nodes starts before any configuration. Its other setting,
`bypass_pem_cache`, never reads a CA that was added or taken away while a connection is open, and reads certificate and
key one after the other: 4 of 100 renewals failed a handshake then, and none of 99 with this one (RabbitMQ 4.3.6).
"""
_GIVE_UP: Final = "[{nodelay,true},{raw,6,18,<<6000:32/native>>}]"
"""Linux' TCP_USER_TIMEOUT (IPPROTO_TCP, 18): milliseconds for which what was sent may stay without an answer.

Where packets are lost in silence, a full buffer of TLS blocks what looks for lost nodes: with 200 messages a second a
node noticed after 17 s that another was cut off, not after `net_ticktime`, and let no client of a limited tenant in
until then. Measured with RabbitMQ 4.3.6.
"""

UPLOADS: Final = {_FILE: _CONTENT}
"""Files in /etc/rabbitmq."""
ENVIRONMENT: Final = {
    "RABBITMQ_CTL_ERL_ARGS": _SPEAKS,
    "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
        f"{_SPEAKS} {REREAD} -kernel inet_dist_connect_options {_GIVE_UP} -kernel inet_dist_listen_options {_GIVE_UP}"
    ),
}
"""What the server and the command-line tools get: a tool without it can't speak to its node."""
