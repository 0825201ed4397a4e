"""HTTP to a pool of `vllm serve` processes: answers from whichever has room, control to all.

Routes of vLLM 0.32, for an engine started with VLLM_SERVER_DEV_MODE=1: tokens in, tokens out at
/inference/v1/generate, and what reinforcement learning needs at /pause, /resume, /collective_rpc.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from luffy_pl.errors import EngineError, first_line

IN_FLIGHT = 256
"""Requests at a time at one server: as many as vLLM decodes together; more would wait there."""
CONNECT_S = 10.0
KEY = "VLLM_API_KEY"
"""Variable with the key that requests carry: the one in which `vllm serve` looks for its own."""
RETRY_AFTER_S = 0.5
"""Seconds before a request that failed is sent again; a server that failed rests as long."""


@dataclass(frozen=True)
class Duty:
    """What the servers of a pool are for.

    route: which answers requests. in_flight: requests at a time at one server. where: the setting
    that names the servers; if_silent, if_refused: what to do where they do not answer, or say no.
    """

    route: str = "inference/v1/generate"
    in_flight: int = IN_FLIGHT
    where: str = "data.engine.server"
    if_silent: str = (
        "look at the servers, start them with luffy-pl serve, or raise server.timeout_s"
    )
    if_refused: str = "start the server with luffy-pl serve, for this model and max_model_len"


@dataclass(frozen=True)
class Asked:
    """One request: the JSON body for the route of the pool, and where its answer belongs."""

    place: tuple[int, int]
    body: dict[str, Any]


class WrongWeights(Exception):
    """An answer from weights that are not the ones of this run."""


@dataclass
class _Server:
    url: str
    num_in_flight: int = 0
    rests_until: float = 0.0


class ServerPool:
    """Servers by their addresses; nothing is opened until something is asked.

    Args:
        urls: http://host:port of each.
        timeout_s: for one answer, and for one control request, all retries included.
        duty: what is asked of them.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        timeout_s: float,
        duty: Duty = Duty(),
    ) -> None:
        self.urls = [url.rstrip("/") for url in urls]
        self.timeout_s, self.duty = timeout_s, duty

    def answers(
        self,
        requests: Sequence[Sequence[Asked]],
        *,
        version: str | None,
        on_answer: Callable[[tuple[int, int], dict[str, Any]], None],
    ) -> None:
        """Ask for all; the requests of one prompt go to one server, whose cache then holds it.

        A request that fails is sent again, to another server where there is one. The seed is in
        the request, so its tokens are the same.

        Args:
            version: of the weights an answer must come from; None takes any.
            on_answer: gets each request's place and the first choice of its answer, as it comes.

        Raises:
            EngineError: a request is refused, or has no answer in time.
        """
        try:
            asyncio.run(self._answers(requests, version, on_answer))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors

    def everywhere(
        self, route: str, bodies: Sequence[Any] | None = None, *, method: str = "POST"
    ) -> list[Any]:
        """One control request to every server at the same time; their answers, in order.

        `bodies` are JSON, one for each server.
        """
        return asyncio.run(self._everywhere(route, bodies or [None] * len(self.urls), method))

    async def _answers(
        self,
        requests: Sequence[Sequence[Asked]],
        version: str | None,
        on_answer: Callable[[tuple[int, int], dict[str, Any]], None],
    ) -> None:
        servers = [_Server(url) for url in self.urls]
        room = asyncio.Event()

        async def ask(session: aiohttp.ClientSession, asked: Asked, server: _Server) -> None:
            deadline = time.monotonic() + self.timeout_s
            while True:
                try:
                    choice = await self._ask(session, asked, server, deadline, version)
                    on_answer(asked.place, choice)
                    return
                except (aiohttp.ClientError, TimeoutError, WrongWeights) as error:
                    if time.monotonic() + RETRY_AFTER_S > deadline:
                        raise self._unanswered(server.url, error) from error
                    server.rests_until = time.monotonic() + RETRY_AFTER_S
                    await asyncio.sleep(RETRY_AFTER_S / 2)
                finally:
                    server.num_in_flight -= 1
                    room.set()
                server = _roomiest(servers)
                server.num_in_flight += 1

        async with self._session() as session, asyncio.TaskGroup() as group:
            for own in requests:
                while (server := _roomiest(servers)).num_in_flight >= self.duty.in_flight:
                    room.clear()
                    await room.wait()
                for asked in own:
                    server.num_in_flight += 1
                    group.create_task(ask(session, asked, server))

    async def _ask(
        self,
        session: aiohttp.ClientSession,
        asked: Asked,
        server: _Server,
        deadline: float,
        version: str | None,
    ) -> dict[str, Any]:
        limit = aiohttp.ClientTimeout(
            total=max(0.1, deadline - time.monotonic()), sock_connect=CONNECT_S
        )
        url = f"{server.url}/{self.duty.route}"
        answer = await self._json(session, "POST", url, asked.body, limit)
        choice: dict[str, Any] = answer["choices"][0]
        found = {span["version"] for span in choice.get("weight_versions") or []}
        if version is not None and found - {version}:
            raise WrongWeights(f"its weights are of version {sorted(found)}, not {version}")
        if choice["finish_reason"] not in ("stop", "length"):
            raise aiohttp.ClientError(f"the answer ended by {choice['finish_reason']!r}")
        return choice

    async def _everywhere(self, route: str, bodies: Sequence[Any], method: str) -> list[Any]:
        limit = aiohttp.ClientTimeout(total=self.timeout_s, sock_connect=CONNECT_S)

        async def control(session: aiohttp.ClientSession, url: str, body: Any) -> Any:
            try:
                return await self._json(session, method, f"{url}/{route}", body, limit)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise self._unanswered(f"{url}/{route}", error) from error

        async with self._session() as session:
            asked = (
                control(session, url, body) for url, body in zip(self.urls, bodies, strict=True)
            )
            return list(await asyncio.gather(*asked))

    def _session(self) -> aiohttp.ClientSession:
        key = os.environ.get(KEY, "").strip()  # a file ends with a line
        headers = {"Authorization": f"Bearer {key}"} if key else None
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers)

    async def _json(
        self,
        session: aiohttp.ClientSession,
        method: str,
        url: str,
        body: Any,
        limit: aiohttp.ClientTimeout,
    ) -> Any:
        """The JSON answer, None without content; another try does not help after a refusal."""
        async with session.request(method, url, json=body, timeout=limit) as answer:
            if 400 <= answer.status < 500:
                wants_key = answer.status == 401
                raise EngineError(
                    self.duty.where,
                    f"{url} refuses a request: {(await answer.text())[:200]}",
                    value=answer.status,
                    fix=f"put the server's key into {KEY}" if wants_key else self.duty.if_refused,
                )
            answer.raise_for_status()
            return await answer.json() if answer.content_type == "application/json" else None

    def _unanswered(self, url: str, error: Exception) -> EngineError:
        return EngineError(
            self.duty.where,
            f"no answer from {url} within {self.timeout_s:g} s ({first_line(error)})",
            value=self.urls,
            fix=self.duty.if_silent,
        )


def _roomiest(servers: Sequence[_Server]) -> _Server:
    """The server with the fewest requests; one that has just failed only where all have."""
    now = time.monotonic()
    return min(servers, key=lambda server: (server.rests_until > now, server.num_in_flight))
