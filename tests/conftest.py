"""What all tests share: hypothesis without deadlines or chance, the backends, and modules fit for a gradient check."""

import signal

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tinydiff import kernels

# Compiling takes longer than any deadline; the same examples each time, so that a failure can be seen again.
settings.register_profile(
    "tinydiff",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("tinydiff")


def pytest_configure(config):
    """`pytest -m ex1_3` runs the tests of exercise 1.3."""
    from tinydiff.exercises import exercises

    for number, exercise in exercises().items():
        config.addinivalue_line("markers", f"ex{number.replace('.', '_')}: {exercise.title}")


@pytest.fixture(autouse=True, scope="session")
def ctrl_c():
    """A shell starts what runs in its background (`pytest &`) with Ctrl-C ignored, as tests of Ctrl-C must not be."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(params=["reference", "numpy", "cpu"])
def backend(request):
    """Each backend, set for the test."""
    with kernels.use(request.param):
        yield request.param


@pytest.fixture(params=["reference", "numpy"])
def float64_backend(request):
    """Each backend that computes in float64, set for the test."""
    with kernels.use(request.param):
        yield request.param


@pytest.fixture
def awake():
    """A function that turns a module to float64 and stirs every parameter: a zero weight hides what lies behind it."""

    def stir(module, seed=0):
        rng = np.random.default_rng(seed)
        for parameter in module.astype(np.float64).parameters():
            parameter.assign(parameter.data + 0.3 * rng.standard_normal(parameter.shape))
        return module

    return stir
