"""Reading the figures of a tenant's queues from the broker's management API, with the tenant's own credentials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import httpx

from kryonix.messaging.configuration import MANAGEMENT_VARIABLE, Address
from kryonix.messaging.errors import StatsUnavailable

__all__ = ["queue_figures"]

_COLUMNS: Final = ",".join(
    (
        "name",
        "messages",
        "messages_ready",
        "messages_unacknowledged",
        "consumers",
        "message_stats.publish_details.rate",
        "message_stats.deliver_get_details.rate",
        "message_stats.ack_details.rate",
    )
)


async def queue_figures(address: Address, timeout: float) -> Sequence[Mapping[str, Any]]:
    """All queues of the tenant's vhost. Raises StatsUnavailable: what can't be read is never taken for zero."""
    if address.management_url is None:
        remedy = f"Pass management_url to connect(), or set {MANAGEMENT_VARIABLE}; `kryonix outputs` prints it"
        raise StatsUnavailable("no address of the management API", remedy=remedy)
    url = f"{address.management_url.rstrip('/')}/api/queues/{quote(address.vhost, safe='')}"
    try:
        async with httpx.AsyncClient(auth=(address.username, address.password), timeout=timeout) as client:
            response = await client.get(url, params={"columns": _COLUMNS, "disable_stats": "false"})
        response.raise_for_status()
        answer = response.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise StatsUnavailable(f"{url} gives no figures ({type(error).__name__}: {error})") from error
    if not isinstance(answer, list):
        raise StatsUnavailable(f"{url} answers with something else than a list of queues")
    return answer
