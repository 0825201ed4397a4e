"""Requests to a pool: who gets them, what is tried again, and what ends a run."""

import asyncio
import threading
from collections import Counter

import pytest
import torch
from aiohttp import web

from luffy_pl.errors import ConfigError, EngineError
from luffy_pl.rollout.engine import EngineConfig, ServerConfig
from luffy_pl.rollout.policy_weights import PolicyWeights
from luffy_pl.rollout.server_pool import Asked, ServerPool
from luffy_pl.rollout.start import start_engine


class StandIn:
    """A server that says what it is told to, and writes down what it is asked."""

    def __init__(
        self, *, status=200, version="3", fails=0, finish_reason="stop", forgets=True, key=None
    ):
        self.status, self.version, self.fails = status, version, fails
        self.key = key
        self.forgets = forgets
        self.finish_reason = finish_reason
        self.asked, self.bodies = Counter(), []

    async def handle(self, request):
        self.asked[request.path] += 1
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        self.bodies.append(await request.json() if request.can_read_body else None)
        if request.path == "/get_world_size":
            return web.json_response({"world_size": 2})
        if request.path == "/reset_prefix_cache":
            return web.json_response({"success": self.forgets})
        if self.fails:
            self.fails -= 1
            return web.Response(status=503)
        if self.status != 200:
            return web.Response(status=self.status, text="no such length")
        choice = {
            "token_ids": [7],
            "finish_reason": self.finish_reason,
            "weight_versions": [{"version": self.version, "start": 0, "end": 1}],
        }
        return web.json_response({"choices": [choice]})


@pytest.fixture
def serve():
    """Start stand-ins on free ports of this machine; returns a pool of them."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    runners = []

    async def start(stand_in):
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", stand_in.handle)
        runners.append(web.AppRunner(app))
        await runners[-1].setup()
        site = web.TCPSite(runners[-1], "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"

    def pool(*stand_ins, timeout_s=20.0):
        started = (asyncio.run_coroutine_threadsafe(start(one), loop) for one in stand_ins)
        return ServerPool([one.result(10) for one in started], timeout_s=timeout_s)

    yield pool
    for runner in runners:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


GENERATE = "/inference/v1/generate"


def ask(pool, num_prompts=4, version="3"):
    requests = [[Asked((p, s), {"prompt": p}) for s in range(2)] for p in range(num_prompts)]
    found = {}
    pool.answers(requests, version=version, on_answer=found.__setitem__)
    assert sorted(found) == [(p, s) for p in range(num_prompts) for s in range(2)]


def test_a_prompt_goes_to_one_server_and_all_servers_work(serve):
    one, two = StandIn(), StandIn()
    ask(serve(one, two))
    assert one.asked[GENERATE] == two.asked[GENERATE] == 4
    prompts = [{body["prompt"] for body in server.bodies} for server in (one, two)]
    assert prompts[0].isdisjoint(prompts[1])


def test_a_server_that_fails_rests_and_the_other_takes_its_requests(serve):
    broken, well = StandIn(fails=99), StandIn()
    ask(serve(broken, well))
    assert well.asked[GENERATE] == 8


def test_a_server_that_was_restarted_is_not_believed(serve):
    restarted, well = StandIn(version="default"), StandIn()
    ask(serve(restarted, well))
    assert well.asked[GENERATE] == 8


def test_one_server_is_tried_again(serve):
    ask(serve(StandIn(fails=3)))


def test_no_answer_in_time_ends_the_run(serve):
    with pytest.raises(EngineError, match=r"no answer from http://127.0.0.1:\d+ within 1 s"):
        ask(serve(StandIn(fails=99), timeout_s=1))


def test_only_other_weights_end_the_run(serve):
    with pytest.raises(EngineError, match="its weights are of version"):
        ask(serve(StandIn(version="2"), timeout_s=1))


def test_a_refusal_ends_the_run_at_once(serve):
    server = StandIn(status=400)
    with pytest.raises(EngineError, match="no such length"):
        ask(serve(server), num_prompts=1)
    assert server.asked[GENERATE] <= 2


def test_a_server_with_a_key_gets_it_from_the_environment(serve, monkeypatch):
    server = StandIn(key="of the server")
    with pytest.raises(EngineError, match=r"Unauthorized.*put the server's key into VLLM_API_KEY"):
        ask(serve(server), num_prompts=1)
    monkeypatch.setenv("VLLM_API_KEY", "of the server\n")  # as a file may end
    pool = serve(server)
    ask(pool)
    assert pool.everywhere("get_world_size", method="GET") == [{"world_size": 2}]


def test_an_aborted_answer_is_none(serve):
    with pytest.raises(EngineError, match="ended by 'abort'"):
        ask(serve(StandIn(finish_reason="abort"), timeout_s=1))


def test_control_reaches_every_server(serve):
    one, two = StandIn(), StandIn()
    pool = serve(one, two)
    assert pool.everywhere("get_world_size", method="GET") == [{"world_size": 2}] * 2
    pool.everywhere("pause", [{"n": 1}, {"n": 2}])
    assert (one.bodies[-1], two.bodies[-1]) == ({"n": 1}, {"n": 2})


def test_workers_of_a_pool_get_places_behind_the_trainer(serve):
    pytest.importorskip("vllm", reason="vLLM is an extra")
    from luffy_pl.rollout.nccl_transfer import PoolClient

    one, two = StandIn(), StandIn()
    PoolClient(serve(one, two), [2, 2]).init_weight_transfer_engine(
        {"rank_offset": 1, "world_size": 5}
    )
    places = [server.bodies[-1]["init_info"]["rank_offset"] for server in (one, two)]
    assert places == [1, 3]


def test_servers_that_are_not_there_are_named():
    server = ServerConfig(urls=("http://127.0.0.1:9",), timeout_s=1)
    with pytest.raises(EngineError, match=r"no answer from http://127\.0\.0\.1:9/health"):
        start_engine("", EngineConfig(kind="vllm_server", server=server), stop_token_ids=[1])
    with pytest.raises(ConfigError, match=r"urls: is empty"):
        start_engine("", EngineConfig(kind="vllm_server"), stop_token_ids=[1])
    with pytest.raises(ConfigError, match="must be addresses"):
        ServerConfig(urls=("127.0.0.1:8000",))


def test_a_server_that_keeps_prompts_of_older_weights_stops_the_run(serve, tmp_path):
    """Neither new answers nor a new version: nothing may be sampled from them."""
    good, bad = StandIn(), StandIn(forgets=False)
    server = ServerConfig(urls=tuple(serve(good, bad).urls), folder=str(tmp_path))
    engine = start_engine("", EngineConfig(kind="vllm_server", server=server), stop_token_ids=[1])
    weights = PolicyWeights({"w": torch.ones(1)}, prefix="")
    with pytest.raises(EngineError, match=f"{server.urls[1]} keeps cached prompts"):
        engine.load_weights(weights, policy_version=4)
    assert engine.policy_version == -1
    assert good.asked["/update_weight_version"] == good.asked["/resume"] == 0
    bad.forgets = True
    engine.load_weights(weights, policy_version=4)
    assert engine.policy_version == 4
