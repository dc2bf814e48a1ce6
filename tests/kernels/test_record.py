"""A recorded forward pass gives what the pass gives, with other inputs too, or is refused."""

import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

import tinydiff
from tinydiff import kernels, nn, ops
from tinydiff.autograd import Tensor, no_grad
from tinydiff.kernels import cpu, recording
from tinydiff.models.text_encoder import TextEncoder, TextEncoderConfig
from tinydiff.models.unet import UNet
from tinydiff.nn.module import forward_hook
from tinydiff.replay import MOST, Replay
from tinydiff.training.optim import AdamW, OptimConfig
from tinydiff.training.presets import PRESETS

PROMPT = ["a red dress on a white background"]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def assert_replayed(work, weights, inputs):
    """Five calls with other numbers each time; from the second on they are replayed."""
    replay = Replay()
    with no_grad():
        for seed in range(5):
            arrays = [a if a.dtype.kind == "i" else normal(*a.shape, seed=seed) for a in inputs]
            np.testing.assert_array_equal(replay(work, weights, *arrays), work(*arrays))
    (record,) = replay._records.values()
    assert record.refused is None and record.replay is not None


@pytest.mark.parametrize("name", ["quick", "full", "pixels"])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("constant", [False, True])
def test_every_presets_network(name, batch, constant):
    config = PRESETS[name].unet
    unet = UNet(config, np.random.default_rng(0))
    for p in unet.parameters():  # a zero weight hides what lies behind it
        p.assign(p.data + np.float32(0.02) * normal(*p.shape, seed=1))
    size = 8 if config.in_channels == 4 else 16
    x, text = normal(batch, size, size, config.in_channels), normal(batch, 5, config.cross_attention_dim)

    def work(x, t, text):
        return unet(Tensor(x), t, Tensor(text)).data

    with kernels.constant_weights() if constant else no_grad():
        assert_replayed(work, [p.data for p in unet.parameters()], [x, np.full(batch, 7), text])


def test_the_timesteps_are_inputs_too():
    unet = UNet(PRESETS["quick"].unet, np.random.default_rng(0))
    unet.conv_out.weight.assign(normal(*unet.conv_out.weight.shape))
    x, text = normal(1, 8, 8, 4), normal(1, 5, PRESETS["quick"].unet.cross_attention_dim)
    replay, weights = Replay(), [p.data for p in unet.parameters()]
    with no_grad():
        results = [
            replay(lambda x, t, text: unet(Tensor(x), t, Tensor(text)).data, weights, x, np.array([t]), text).copy()
            for t in (900, 900, 5, 400)
        ]
        for t, y in zip((900, 900, 5, 400), results, strict=True):
            np.testing.assert_array_equal(y, unet(Tensor(x), np.array([t]), Tensor(text)).data)


def test_words_and_a_text_encoder():
    config = TextEncoderConfig(9, 3, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    encoder = TextEncoder(config, np.random.default_rng(0))
    assert_replayed(lambda ids: encoder(ids).data, [p.data for p in encoder.parameters()], [np.array([[1, 8, 3]])])


def test_what_is_no_op_is_refused():
    layer = nn.Linear(np.random.default_rng(0), 3, 2)
    weights = [p.data for p in layer.parameters()]

    def outside(x):
        return layer(Tensor(np.exp(x))).data  # NumPy, between the ops

    def by_value(x):
        return layer(Tensor(x)).data if x.sum() > 3 else layer(Tensor(x)).data * 2

    for work, ones in ((outside, np.ones((2, 3), np.float32)), (by_value, np.full((2, 3), 0.3, np.float32))):
        replay = Replay()
        for x in (ones, 2 * ones, 3 * ones, 0 * ones):
            np.testing.assert_array_equal(replay(work, weights, x), work(x))
        assert "something else" in list(replay._records.values())[-1].refused


def test_too_much_memory_is_refused(monkeypatch):
    monkeypatch.setattr(sys.modules["tinydiff.kernels.cpu.record"], "LARGEST", 1 << 10)
    layer = nn.Linear(np.random.default_rng(0), 3, 200)
    replay, weights = Replay(), [p.data for p in layer.parameters()]
    for _ in range(3):
        y = replay(lambda x: layer(Tensor(x)).data, weights, np.ones((9, 3), np.float32))
    np.testing.assert_array_equal(y, layer(Tensor(np.ones((9, 3), np.float32))).data)
    assert "would keep more than" in list(replay._records.values())[0].refused


def test_few_records_are_kept():
    layer = nn.Linear(np.random.default_rng(0), 3, 2)
    replay, weights = Replay(), [p.data for p in layer.parameters()]
    for rows in range(1, MOST + 4):
        for _ in range(3):
            replay(lambda x: layer(Tensor(x)).data, weights, np.ones((rows, 3), np.float32))
    assert len(replay._records) == MOST


def test_images_are_the_same_replayed():
    """Sampling is replayed, in the first call and in later ones, with another seed and another prompt."""
    pipe = tinydiff.load()
    calls = [(PROMPT, 1), (PROMPT, 2), (["a blue bag on a sky background"], 1)]
    images = [pipe.generate(prompt, steps=6, seed=seed) for prompt, seed in calls]
    with tinydiff.use(replay=False):
        for (prompt, seed), image in zip(calls, images, strict=True):
            np.testing.assert_array_equal(image, pipe.generate(prompt, steps=6, seed=seed))


def test_replay_and_winograd_can_be_switched_off():
    """At any time: a record that was made before is not used."""
    pipe, counted = tinydiff.load(), []
    x, text = normal(2, 8, 8, 4), pipe.encode_prompt(PROMPT * 2)

    def predicted(**choice):
        with tinydiff.use(**choice):
            return pipe.predict(x, 500, text)

    with tinydiff.use(replay=False):
        direct = predicted(winograd=False)
    with kernels.constant_weights():
        first, second, replayed = (pipe.predict(x, 500, text) for _ in range(3))
        assert (direct != first).any()  # in the last bits
        for again in (second, replayed, predicted(replay=False)):
            np.testing.assert_array_equal(again, first)
        for _ in range(3):
            np.testing.assert_array_equal(predicted(winograd=False), direct)
        call = type(pipe.denoiser.unet).__call__
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(pipe.denoiser.unet), "__call__", lambda *args: counted.append(1) or call(*args))
            predicted(), predicted(replay=False)
    assert len(counted) == 1  # the replayed one runs no module


def test_a_training_in_between_is_seen():
    """Weights that an optimiser changes in place are read anew, with what Winograd's way makes of them."""
    pipe = tinydiff.load()
    unet = pipe.denoiser.unet
    optimiser = AdamW(unet, OptimConfig(steps=10, batch=1, warmup=1, lr=0.1))
    for _ in range(2):
        before = pipe.generate(PROMPT, steps=4)
    for p in unet.parameters():
        p.grad = np.ones_like(p.data)
    optimiser.step(0)
    after = pipe.generate(PROMPT, steps=4)
    np.testing.assert_array_equal(after, replace(pipe).generate(PROMPT, steps=4))
    assert (after != before).any()


def test_threads_have_their_own_records():
    pipe = tinydiff.load()
    expected = [pipe.generate(PROMPT, steps=4, seed=seed) for seed in range(4)]
    results = [None] * 4

    def run(seed):
        for _ in range(2):
            results[seed] = pipe.generate(PROMPT, steps=4, seed=seed)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for got, right in zip(results, expected, strict=True):
        np.testing.assert_array_equal(got, right)


def test_a_hook_sees_every_step():
    pipe, seen = tinydiff.load(), []
    pipe.generate(PROMPT, steps=4)
    with forward_hook(lambda layer, inputs, y: seen.append(layer) if layer is pipe.denoiser.unet else None):
        pipe.generate(PROMPT, steps=4)
    assert len(seen) == 4


def test_a_step_of_training_is_not_recorded_on_the_cpu():
    assert kernels.find_kernel("record_step", np.ones(1, np.float32)) is None
    assert kernels.find_kernel("record", np.ones(1, np.float32)) is cpu.record


def test_nothing_is_noted_outside():
    ops.silu(Tensor(np.ones((2, 2), np.float32)))
    assert recording.recorder.get() is None
