"""Each library is timed in a process of its own, and only equal work is timed."""

import time

import numpy as np
import pytest

from tinydiff.bench import inference, steps, worker
from tinydiff.errors import InputError, MismatchError


def contender(library, seconds="0"):
    """Of these tests: prints, sleeps, counts or ends."""
    calls = []

    def run():
        print("not an answer")
        calls.append(1)
        if library == "ends" and len(calls) > 2:
            raise SystemExit(3)
        time.sleep(float(seconds))

    return run


def test_contenders_take_turns_in_processes_of_their_own(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(__file__).rsplit("/", 1)[0])
    slow, fast = worker.in_turns("test_worker", [("slow", "0.2"), ("fast", "0.05")], rounds=2, warmup=0)
    assert 0.2 <= slow < 1 and 0.05 <= fast < 0.2


def test_one_that_ends_is_named(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(__file__).rsplit("/", 1)[0])
    with pytest.raises(InputError, match="bench: ends ended with status 3"):
        worker.in_turns("test_worker", [("ends",)], rounds=2, warmup=0)


def test_one_image_is_drawn_in_a_process_of_its_own():
    (seconds,) = worker.in_turns("tinydiff.bench.steps", [("tinydiff", "sampling", "1")], rounds=1, warmup=0)
    assert 0 < seconds < 60


def test_the_forward_is_that_of_the_pipeline():
    forward = inference.contender("tinydiff", "1", "")
    try:
        first = forward()
        for _ in range(3):
            np.testing.assert_array_equal(forward(), first)
        assert first.shape == (1, 8, 8, 4)
    finally:
        inference._ALWAYS.close()


def test_other_libraries_compute_the_same(monkeypatch):
    for module in ("torch", "diffusers", "onnx", "onnxruntime", "openvino"):
        pytest.importorskip(module)
    monkeypatch.setattr(inference, "BATCHES", (1,))
    monkeypatch.setattr(inference, "in_turns", lambda module, contenders, rounds: [1.0, 5.0, 4.0, 3.0, 2.0])
    rows = list(inference.inference_rows(1))
    assert [(row.against, row.ratio) for row in rows] == [("PyTorch", 4), ("ONNX Runtime", 3), ("OpenVINO", 2)]
    inputs, calls = inference._inputs, []

    def changed_for_the_fifth(batch):
        """The export, tinydiff and PyTorch twice come first."""
        calls.append(batch)
        x, t, text = inputs(batch)
        return (x, t, text) if len(calls) < 5 else (x + 1, t, text)

    monkeypatch.setattr(inference, "_inputs", changed_for_the_fifth)
    with pytest.raises(MismatchError, match="in ONNX Runtime differs"):
        list(inference.inference_rows(1))


def test_the_images_of_the_reference_are_checked(monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    from tinydiff.bench import torch_reference

    steps.check_images(1)
    monkeypatch.setattr(torch_reference.Pipeline, "generate", lambda self, prompts: np.zeros((1, 32, 32, 3)))
    with pytest.raises(MismatchError, match="pixels differ by more than 2 of 255"):
        steps.check_images(1)
