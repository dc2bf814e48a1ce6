"""Threads side by side: each has its own backend and its own tape, and gets the bits that it would get alone."""

import sys
import threading

import numpy as np
import pytest

import tinydiff
from tinydiff import ops
from tinydiff.autograd import Tensor, no_grad
from tinydiff.kernels import backend_of, use, winograd_allowed
from tinydiff.kernels.cpu import arrays

FLOAT32 = np.zeros(1, np.float32)


@pytest.fixture(autouse=True)
def default_afterwards():
    yield
    use(None, winograd=True)


@pytest.fixture
def impatient():
    """Threads take turns as often as Python lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(*jobs):
    """Run the jobs at once, each in a thread of its own; raise what one of them raised."""
    failed = []

    def guarded(job):
        try:
            job()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def weights_of(seed):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((2, 9, 11, 16), np.float32), rng.standard_normal((3, 3, 16, 32), np.float32)


def gradients(seed=0):
    """A convolution, its norm and its activation, differentiated on the tape."""
    x, w = (Tensor(a, requires_grad=True) for a in weights_of(seed))
    y = ops.group_norm(ops.conv2d(x, w, padding=1), np.ones(32, np.float32), np.zeros(32, np.float32), groups=4)
    ops.gelu(y).backward(np.ones(y.shape, np.float32))
    return x.grad.tobytes() + w.grad.tobytes()


def untaped(seed=0):
    with no_grad():
        x, w = (Tensor(a, requires_grad=True) for a in weights_of(seed))
        y = ops.conv2d(x, w, padding=1)
        assert not y.requires_grad
        return y.data.tobytes()


def on(backend, winograd=True):
    def work():
        with use(backend, winograd=winograd):
            return gradients()

    return work


@pytest.mark.parametrize("rounds", [10, pytest.param(500, marks=pytest.mark.campaign)])
def test_every_thread_gets_the_bits_that_it_would_get_alone(impatient, rounds):
    """One draws, two differentiate, others choose their backends; the answers differ in bits from each other."""
    pipe = tinydiff.load()
    jobs = {
        "draws": lambda: pipe.generate(["a red dress on a white background"], steps=2, seed=3).tobytes(),
        "differentiates": gradients,
        "records nothing": untaped,
        "numpy": on("numpy"),
        "no Winograd": on("cpu", winograd=False),
    }
    alone = {name: job() for name, job in jobs.items()}
    assert len(set(alone.values())) == len(jobs)

    def repeated(name):
        def job():
            for _ in range(rounds if name != "draws" else rounds // 10):
                assert jobs[name]() == alone[name], name

        return job

    in_threads(*map(repeated, jobs), repeated("differentiates"))
    assert backend_of(FLOAT32) == "cpu" and winograd_allowed()


def test_a_block_is_seen_by_no_other_thread(impatient):
    """Not even between the call and the beginning of its block."""
    done = threading.Event()

    def blocks():
        for _ in range(20_000):
            with use("reference", winograd=False):
                pass
        done.set()

    def looks():
        while not done.is_set():
            assert backend_of(FLOAT32) == "cpu" and winograd_allowed()

    in_threads(blocks, looks, looks)


def test_a_block_that_has_not_begun_is_no_default():
    block, seen = use("numpy"), []
    in_threads(lambda: seen.append(backend_of(FLOAT32)))
    assert seen == [backend_of(FLOAT32)] == ["cpu"]
    with block:
        assert backend_of(FLOAT32) == "numpy"
    del block
    assert backend_of(FLOAT32) == "cpu"


def test_a_statement_holds_for_all_threads_and_a_block_comes_before_it():
    seen = []
    with use("numpy"):
        use("reference", winograd=False)
        assert backend_of(FLOAT32) == "numpy" and winograd_allowed()
        in_threads(lambda: seen.append((backend_of(FLOAT32), winograd_allowed())))
    assert seen == [("reference", False)]
    assert backend_of(FLOAT32) == "reference" and not winograd_allowed()
    use(winograd=True)
    assert backend_of(FLOAT32) == "reference" and winograd_allowed()


def test_what_a_notebook_shows_and_keeps_is_a_statement():
    kept = use("numpy")
    assert repr(kept) == "use(backend='numpy', winograd=True, replay=True)"
    assert backend_of(FLOAT32) == "numpy"
    use("reference")
    del kept
    assert backend_of(FLOAT32) == "reference"


def test_blocks_that_overlap_in_two_threads_leave_nothing_behind():
    first_is_in, second_is_in, first_is_out = (threading.Event() for _ in range(3))

    def first():
        with use("numpy"), no_grad():
            first_is_in.set()
            assert second_is_in.wait(30)
        first_is_out.set()

    def second():
        assert first_is_in.wait(30)
        with use("reference"), no_grad():
            second_is_in.set()
            assert first_is_out.wait(30)

    in_threads(first, second)
    assert backend_of(FLOAT32) == "cpu"
    x = Tensor(np.ones(2), requires_grad=True)
    (x * x).backward(np.ones(2))
    np.testing.assert_array_equal(x.grad, [2, 2])


def test_zeros_are_enough_whatever_another_thread_asks_for(monkeypatch):
    """Between any two lines another thread may have made room for fewer."""
    few = np.zeros(2, np.float32)
    monkeypatch.setattr(arrays, "_zeros", few)

    def meddle(frame, event, arg):
        if frame.f_code is arrays.zeros.__code__:
            arrays._zeros = few
            return meddle

    before = sys.gettrace()
    sys.settrace(meddle)
    try:
        assert arrays.zeros(1000).size >= 1000
    finally:
        sys.settrace(before)
