"""A broker's detailed metrics, from the first of its nodes that answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import urllib3
from urllib3.exceptions import HTTPError

from kryonix.certificates.trust import context
from kryonix.rabbitmq.client import ALIVE, BrokerUnavailable

_CONNECT_S: Final = 5


def metric_lines(outputs: Mapping[str, Any], *families: str, read_s: float) -> Iterator[str]:
    """Yield the lines of these families as they arrive. `outputs` are those of a platform's stack.

    Raises BrokerUnavailable, also if the answer ends early.
    """
    rest = ""
    with _answer(outputs, families, read_s) as answer:
        try:
            for part in answer.stream(65_536):
                *lines, rest = (rest + part.decode("utf-8", "replace")).split("\n")
                yield from lines
        except HTTPError as error:
            problem = f"the metrics at {answer.url} can't be read to their end ({type(error).__name__})"
            raise BrokerUnavailable(problem) from error


def _answer(outputs: Mapping[str, Any], families: tuple[str, ...], read_s: float) -> urllib3.BaseHTTPResponse:
    pool = urllib3.PoolManager(
        ssl_context=context(str(outputs.get("ca_certificate") or "")),
        headers=urllib3.make_headers(basic_auth=f"{outputs.get('metrics_username')}:{outputs.get('metrics_password')}"),
        timeout=urllib3.Timeout(connect=_CONNECT_S, read=read_s),
        retries=False,
    )
    asked = [("family", family) for family in families]
    urls = outputs.get("metrics_urls") or [outputs.get("metrics_url")]
    problems = []
    for url in (f"{each}/detailed" for each in urls):
        try:
            if len(urls) > 1:
                pool.request("GET", url, timeout=ALIVE)  # without families, and so without lines
            answer = pool.request("GET", url, fields=asked, preload_content=False)
        except HTTPError as error:
            problems.append(f"the metrics at {url} can't be read ({type(error).__name__})")
            continue
        if answer.status == 200:
            return answer
        answer.close()
        problems.append(f"the metrics at {url} can't be read: status {answer.status}")
    raise BrokerUnavailable("; ".join(problems))
