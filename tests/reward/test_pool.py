import contextlib
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest
from reward_cases import HANGING

from luffy_pl.answer import symbolic
from luffy_pl.answer.symbolic import compare_symbolically
from luffy_pl.errors import VerifierError
from luffy_pl.reward import pool as pool_module
from luffy_pl.reward import worker as worker_module
from luffy_pl.reward.math_verifier import MathVerifier
from luffy_pl.reward.pool import ComparisonPool
from luffy_pl.reward.worker import Comparison

pytestmark = pytest.mark.runs

EQUAL, DIFFERENT = ("x+1", "1+x"), ("x+1", "x+2")
HANG = r"\int_0^1 \frac{\sin(x^x)}{\ln(x+e^{x^2})} dx"


def workers(process=None):
    """Live worker processes; the resource tracker, which ends with Python, is none."""
    return [child for child in (process or psutil.Process()).children() if is_worker(child)]


def is_worker(process):
    """A replaced worker is a zombie, without a command line, until its pool waits for it."""
    try:
        return "multiprocessing.spawn" in " ".join(process.cmdline())
    except (psutil.ZombieProcess, psutil.NoSuchProcess):
        return False


def is_healthy(pool):
    return [c.equal for c in pool.compare([EQUAL, DIFFERENT] * 5)] == [True, False] * 5


@contextlib.contextmanager
def running_pool():
    others = {child.pid for child in workers()}
    pool = ComparisonPool(workers=2, timeout_s=6)
    pool.own_workers = lambda: [child for child in workers() if child.pid not in others]
    yield pool
    pool.close()
    assert pool.own_workers() == []


@pytest.fixture
def new_pool():
    with running_pool() as pool:
        yield pool


@pytest.fixture(scope="module")
def pool():
    """Shared, since every test leaves it healthy and starting one takes seconds."""
    with running_pool() as pool:
        yield pool


def test_nothing_starts_before_the_first_comparison_and_nothing_stays(new_pool):
    assert new_pool.own_workers() == []
    assert new_pool.compare([]) == []
    assert new_pool.own_workers() == []
    assert is_healthy(new_pool)
    assert len(new_pool.own_workers()) == 2
    new_pool.close()
    assert new_pool.own_workers() == []
    assert is_healthy(new_pool)  # and it starts again


@pytest.mark.slow
def test_a_worker_does_not_import_what_its_parent_has(pool):
    import torch  # noqa: F401

    assert is_healthy(pool)
    for worker in pool.own_workers():
        assert worker.memory_info().rss < 200 * 2**20
        # vLLM preloads torch's OpenMP library into every child; that is not torch.
        assert not any("libtorch" in region.path for region in worker.memory_maps())


def test_a_worker_has_no_secrets_no_input_and_little_memory(pool, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "canary")
    assert is_healthy(pool)
    for worker in pool.own_workers():
        assert str(Path(f"/proc/{worker.pid}/fd/0").readlink()) == "/dev/null"
    assert pool._pool.schedule(os.getenv, args=("HF_TOKEN",)).result() is None
    assert pool._pool.schedule(os.getenv, args=("SYMPY_GROUND_TYPES",)).result() == "python"
    assert pool._pool.schedule(resource.getrlimit, args=(resource.RLIMIT_CORE,)).result() == (0, 0)
    with pytest.raises(MemoryError):
        pool._pool.schedule(bytearray, args=(2 << 30,)).result()
    assert is_healthy(pool)


@pytest.mark.slow
def test_workers_are_replaced_after_some_tasks(new_pool, monkeypatch):
    monkeypatch.setattr(pool_module, "MAX_TASKS_PER_WORKER", 8)
    assert is_healthy(new_pool)
    before = {worker.pid for worker in new_pool.own_workers()}
    assert all(is_healthy(new_pool) for _ in range(3))
    assert before.isdisjoint(worker.pid for worker in new_pool.own_workers())


@pytest.mark.case(34)
def test_a_hang_ends_at_the_deadline_and_the_rest_is_right(pool):
    start = time.monotonic()
    found = pool.compare([EQUAL, (HANG, r"2\sqrt3"), DIFFERENT])
    assert [c.status for c in found] == ["ok", "timeout", "ok"]
    assert [c.equal for c in found] == [True, False, False]
    assert time.monotonic() - start < 30


@pytest.mark.slow
@pytest.mark.parametrize("answers", [HANGING[:4], pytest.param(HANGING, marks=pytest.mark.long)])
def test_hanging_answers_leave_the_pool_healthy(pool, answers):
    start = time.monotonic()
    found = pool.compare([(answer, r"2\sqrt{3}") for answer in answers])
    assert not any(c.equal for c in found)
    # Two workers, two seconds each, and twice that for a busy machine.
    assert time.monotonic() - start < 30 + 4 * len(answers) / 2
    assert is_healthy(pool)


@pytest.mark.case(34)
@pytest.mark.slow
def test_a_worker_that_no_signal_reaches_is_killed(pool, monkeypatch):
    """A stopped process runs nothing, like one inside a long C call."""
    monkeypatch.setattr(pool, "timeout_s", 3)
    assert is_healthy(pool)
    found = []
    thread = threading.Thread(target=lambda: found.extend(pool.compare([(HANG, "x")] * 2)))
    thread.start()
    time.sleep(0.5)
    for worker in pool.own_workers():
        worker.suspend()
    thread.join(timeout=60)
    assert {c.status for c in found} == {"timeout"}
    assert is_healthy(pool)


@pytest.mark.slow
def test_a_pool_that_stalls_is_rebuilt(pool, monkeypatch):
    monkeypatch.setattr(pool_module, "STALL_GRACE_S", 3)
    monkeypatch.setattr(pool, "timeout_s", 2)
    assert is_healthy(pool)
    for worker in pool.own_workers():
        worker.suspend()  # before they take a task, so that no deadline runs
    assert [c.equal for c in pool.compare([EQUAL, DIFFERENT])] == [True, False]


@pytest.mark.case(35)
def test_a_killed_worker_is_a_crash_and_the_next_answers_are_right(pool):
    assert is_healthy(pool)
    found = []
    thread = threading.Thread(target=lambda: found.extend(pool.compare([(HANG, "x")] * 2)))
    thread.start()
    time.sleep(0.5)
    for worker in pool.own_workers():
        worker.suspend()  # so that it is still at work when it dies
    for worker in pool.own_workers():
        os.kill(worker.pid, signal.SIGKILL)
    thread.join(timeout=60)
    assert "crash" in {c.status for c in found}
    assert not any(c.equal for c in found)
    assert is_healthy(pool)


@pytest.mark.slow
def test_workers_killed_while_idle_are_replaced(pool):
    assert is_healthy(pool)
    for worker in pool.own_workers():
        os.kill(worker.pid, signal.SIGKILL)
    time.sleep(0.5)
    assert is_healthy(pool)


def test_workers_outlive_the_thread_that_asked_first(new_pool):
    thread = threading.Thread(target=is_healthy, args=(new_pool,))
    thread.start()
    thread.join()
    before = {worker.pid for worker in new_pool.own_workers()}
    time.sleep(0.5)
    assert is_healthy(new_pool)
    assert {worker.pid for worker in new_pool.own_workers()} == before


def test_many_threads_share_a_pool(pool):
    healthy = []
    threads = [threading.Thread(target=lambda: healthy.append(is_healthy(pool))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert healthy == [True] * 4


@pytest.mark.case(28)
def test_workers_die_with_their_parent_and_do_not_run_its_script(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, time
            from pathlib import Path
            Path(__file__).with_suffix(f".ran-{__name__}").touch()
            from luffy_pl.reward.pool import ComparisonPool
            pool = ComparisonPool(workers=2, timeout_s=6)
            if __name__ == "__main__":
                pool.compare([("x+1", "1+x")])
                sys.stdout.write("ready\\n")
                sys.stdout.flush()
                time.sleep(60)
            """
        )
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE)
    assert parent.stdout.readline() == b"ready\n"
    children = workers(psutil.Process(parent.pid))
    assert len(children) == 2
    assert [path.suffix for path in tmp_path.glob("parent.ran*")] == [".ran-__main__"]
    for child in children:
        child.suspend()  # a busy worker does not notice that its pipe was closed
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


@pytest.mark.case(36)
def test_workers_that_cannot_start_are_an_error(monkeypatch):
    monkeypatch.setattr(pool_module, "harden_worker", os.abort)
    pool = ComparisonPool(workers=1, timeout_s=6)
    with pytest.raises(VerifierError, match="workers died") as raised:
        pool.compare([EQUAL])
    assert raised.value.exit_code == 6
    pool.close()


@pytest.mark.case(36)
def test_a_failed_self_test_is_an_error(monkeypatch):
    monkeypatch.setattr(pool_module, "_SELF_TEST", ((*EQUAL, False),))
    pool = ComparisonPool(workers=1, timeout_s=6)
    with pytest.raises(VerifierError, match="self-test"):
        pool.compare([EQUAL])
    pool.close()


FAILED, DONE = Comparison(False, "timeout", 0.0), Comparison(True, "ok", 0.0)


@pytest.fixture
def idle_pool(monkeypatch):
    """A pool whose workers answer what `pool.answers` says, and that counts what they are asked."""
    pool = ComparisonPool(workers=2, timeout_s=6)
    pool.answers, pool.asked = FAILED, 0

    def run(compare, pairs, on_done):
        pool.asked += len(pairs)
        for index in range(len(pairs)):
            if on_done is not None:
                on_done(index, pool.answers)
        return [pool.answers] * len(pairs)

    monkeypatch.setattr(pool, "_start", lambda: setattr(pool, "_pool", "running"))
    monkeypatch.setattr(pool, "_self_test", lambda: None)
    monkeypatch.setattr(pool, "_run", run)
    return pool


def test_failures_are_a_share_of_all_answers_and_end_nothing(idle_pool, caplog):
    idle_pool.count_decided(3000)
    assert idle_pool.compare([EQUAL] * 44) == [FAILED] * 44
    assert idle_pool.asked == 44
    assert idle_pool.compare([EQUAL] * 100) == [FAILED] * 100
    assert idle_pool.asked == 144  # 144 of the last 1,024 are no quarter
    assert caplog.messages == []


def test_a_broken_pool_tries_a_few_and_recovers(idle_pool, caplog):
    """Answers come a few at a time; eleven failures of forty are too many all the same."""
    for _ in range(11):
        idle_pool.compare([EQUAL])
    idle_pool.count_decided(29)
    settled = {}
    assert idle_pool.compare([EQUAL] * 100, settled.__setitem__) == [FAILED] * 100
    assert idle_pool.asked == 11 + 2
    assert settled == dict.fromkeys(range(100), FAILED)
    [line] = caplog.messages
    assert line.startswith("data.reward: 111 of the last 140 answers could not be compared")
    idle_pool.answers = DONE
    assert idle_pool.compare([EQUAL] * 100) == [DONE] * 100
    assert idle_pool.asked == 11 + 2 + 100
    idle_pool.compare([EQUAL] * 1000)
    assert len(caplog.messages) == 2
    assert "answers are compared again" in caplog.messages[1]


def test_a_gold_whose_check_ran_out_of_time_is_not_bad(monkeypatch):
    checks = []

    def compare(pairs, on_done=None):
        checks.extend(pairs)
        return [FAILED if len(checks) < 3 else DONE for _ in pairs]

    with MathVerifier(think_end=None, workers=1) as verifier:
        monkeypatch.setattr(verifier._pool, "compare", compare)
        gold = r"2\sqrt{3}"
        assert [verifier.check_gold(gold) for _ in range(4)] == [True] * 4
        assert checks == [(gold, gold)] * 3  # then it is known
        [verdict] = verifier.grade([(r"\boxed{2\sqrt{3}}", gold)])
        assert (verdict.correct, verdict.status) == (True, "ok")


def test_a_gold_that_cannot_be_checked_is_not_checked_for_ever(monkeypatch):
    checks = []
    with MathVerifier(think_end=None, workers=1) as verifier:
        monkeypatch.setattr(verifier._pool, "compare", lambda pairs, on_done=None: [
            checks.append(pair) or FAILED for pair in pairs
        ])  # fmt: skip
        assert [verifier.check_gold(r"2\sqrt{3}") for _ in range(6)] == [True] * 6
        assert len(checks) == 3


def test_a_gold_that_cannot_be_read_is_bad():
    with MathVerifier(think_end=None, workers=1) as verifier:
        assert verifier.check_golds([r"2\sqrt{3", r"2\sqrt{3}"]) == [False, True]


def busy():
    while True:
        pass


def test_a_comparison_is_given_its_own_time_and_not_that_of_others(monkeypatch):
    """A comparison that waits uses none of its seconds."""
    monkeypatch.setattr(symbolic, "TIMEOUT_S", 0.5)
    monkeypatch.setattr(symbolic, "_are_equal", lambda mine, theirs: time.sleep(0.7) or True)
    assert compare_symbolically("x+1", "x+2")
    monkeypatch.setattr(symbolic, "_are_equal", lambda mine, theirs: busy())
    with pytest.raises(TimeoutError):
        compare_symbolically("x+1", "x+2")


def test_a_busy_machine_delays_the_warm_up_and_ends_no_worker(monkeypatch):
    tries = []

    def slow(answer, gold):
        tries.append(answer)
        if len(tries) < 3:
            raise TimeoutError

    monkeypatch.setattr(worker_module, "compare_symbolically", slow)
    worker_module._warm_up()
    assert len(tries) == 3
