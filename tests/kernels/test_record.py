"""A recorded forward pass gives what the pass gives, with other inputs too, or is refused."""

import importlib
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinydiff
from tinydiff import kernels, nn, ops
from tinydiff.autograd import Tensor, no_grad, read_only
from tinydiff.kernels import recording
from tinydiff.kernels.cpu.rooms import Life, Rooms, placed
from tinydiff.models.autoencoder import Autoencoder
from tinydiff.models.text_encoder import TextEncoder, TextEncoderConfig
from tinydiff.models.unet import Denoiser, UNet
from tinydiff.nn.module import forward_hook
from tinydiff.replay import MOST, Replay
from tinydiff.training.optim import AdamW, OptimConfig
from tinydiff.training.presets import PRESETS
from tinydiff.training.replay import ReplayedLoss

record = importlib.import_module("tinydiff.kernels.cpu.record")  # in the package's face the name is a function's
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
    monkeypatch.setattr(record, "LARGEST", 1 << 10)
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


def trained(model, loss, inputs, replay=True):
    """Six steps with other inputs each time: losses and weights; and the record, if there is one."""
    start = model.state_dict()
    with tinydiff.use(replay=replay):
        step, losses = ReplayedLoss(model, loss), []
        optimiser = AdamW(model, OptimConfig(steps=6, batch=1, warmup=1))
        for i in range(6):
            arrays = [a if a.dtype.kind == "i" else normal(*a.shape, seed=i) for a in inputs]
            value = step(*arrays)
            value.backward()
            losses.append((value.item(), optimiser.step(i)))
    weights = {name: a.copy() for name, a in model.state_dict().items()}
    model.load_state_dict(start)
    return losses, weights, list(step._replay._records.values())


def assert_trained_the_same(model, loss, inputs):
    losses, weights, (record,) = trained(model, loss, inputs)
    assert record.refused is None and record.replay is not None
    expected_losses, expected, records = trained(model, loss, inputs, replay=False)
    assert losses == expected_losses and records == []
    for name, array in expected.items():
        np.testing.assert_array_equal(weights[name], array)


DENOISERS = {preset.unet: name for name, preset in reversed(PRESETS.items())}  # each network once
AUTOENCODERS = {preset.autoencoder: name for name, preset in reversed(PRESETS.items())}


@pytest.mark.parametrize("name", DENOISERS.values())
def test_every_presets_denoiser_is_trained_the_same(name):
    """Bit for bit, from weights of which some are zero at first."""
    config = PRESETS[name].unet
    model = Denoiser(config, TextEncoderConfig(9, 5, hidden_size=config.cross_attention_dim), np.random.default_rng(0))
    size = 8 if config.in_channels == 4 else 16
    x, t, tokens = normal(2, size, size, config.in_channels), np.array([7, 990]), np.array([[1, 8, 3, 0, 0]] * 2)

    def loss(x, target, t, tokens):
        return ops.mse_loss(model(Tensor(x), t, tokens), Tensor(target))

    assert_trained_the_same(model, loss, [x, x, t, tokens])


@pytest.mark.parametrize("name", AUTOENCODERS.values())
def test_every_presets_autoencoder_is_trained_the_same(name):
    model = Autoencoder(PRESETS[name].autoencoder, np.random.default_rng(0))
    x = normal(2, 16, 16, 3)

    def loss(x, noise):
        mean, log_variance = model.moments(Tensor(x))
        y = model.reconstruct(ops.reparameterize(mean, log_variance, noise))
        return ops.l1_loss(y, Tensor(x)) + ops.mse_loss(y, Tensor(x)) + ops.kl_loss(mean, log_variance) * np.float32(1)

    assert_trained_the_same(model, loss, [x, model.encode(x)])


def test_a_step_that_makes_something_of_the_weights_outside_of_ops_is_refused():
    """It would be made of the weights of the step that was recorded; these are what they were, and so are gradients."""
    layer = nn.Linear(np.random.default_rng(0), 3, 2)

    def loss(x):
        return ops.mse_loss(layer(Tensor(x)) * np.exp(layer.weight.data[0]), Tensor(np.ones((2, 2), np.float32)))

    losses, weights, (record,) = trained(layer, loss, [normal(2, 3)])
    assert "something else" in record.refused
    expected_losses, expected, _ = trained(layer, loss, [normal(2, 3)], replay=False)
    assert losses == expected_losses
    np.testing.assert_array_equal(weights["weight"], expected["weight"])


def test_a_step_with_random_numbers_of_its_own_is_refused():
    layer, rng = nn.Linear(np.random.default_rng(0), 3, 2), np.random.default_rng(1)
    step = ReplayedLoss(layer, lambda x: ops.dropout(layer(Tensor(x)), rng=rng).mean())
    for _ in range(3):
        step(normal(2, 3)).backward()
    assert "something else" in list(step._replay._records.values())[0].refused


def test_a_failure_while_a_step_is_recorded_leaves_weights_and_gradients():
    layer, calls = nn.Linear(np.random.default_rng(0), 3, 2), []

    def loss(x):
        calls.append(1)
        y = layer(Tensor(x))
        if len(calls) == failing:
            raise KeyboardInterrupt
        return y.mean()

    for time in (2, 3):  # the first of the two times that it runs to be recorded, and the second
        failing = time
        calls.clear()
        weight, step = layer.weight.data.copy(), ReplayedLoss(layer, loss)
        step(normal(2, 3)).backward()
        before = layer.weight.grad.copy()
        with pytest.raises(KeyboardInterrupt):
            step(normal(2, 3))
        np.testing.assert_array_equal(layer.weight.data, weight)
        np.testing.assert_array_equal(layer.weight.grad, before)
        assert not layer.weight.data.flags.writeable and recording.recorder.get() is None
        layer.weight.grad = None


def test_weights_that_cannot_be_written_are_refused():
    layer = nn.Linear(np.random.default_rng(0), 3, 2)
    for p in layer.parameters():
        p.assign(read_only(np.frombuffer(p.data.tobytes(), np.float32).reshape(p.shape)))
    step = ReplayedLoss(layer, lambda x: layer(Tensor(x)).mean())
    for _ in range(3):
        step(normal(2, 3)).backward()
    assert "a weight cannot change" in list(step._replay._records.values())[0].refused


def test_a_backward_without_kernels_is_called_with_what_its_forward_kept_last():
    """Sums of squares of NumPy: the backward needs the difference of its own step."""
    layer = nn.Linear(np.random.default_rng(0), 3, 2)
    assert_trained_the_same(layer, lambda x, y: ops.mse_loss(layer(Tensor(x)), Tensor(y)), [normal(4, 3), normal(4, 2)])


LIVES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 12)), min_size=1, max_size=40)


@given(LIVES)
def test_arrays_that_live_together_do_not_overlap(lives):
    lives = [Life(size, i, i + length) for i, (size, length) in enumerate(lives)]
    places = placed(lives)
    assert min(places) >= 0
    for i, (life, place) in enumerate(zip(lives, places, strict=True)):
        for other, at in zip(lives[:i], places[:i], strict=True):
            if life.begin < other.end and other.begin < life.end:
                assert place + life.size <= at or at + other.size <= place


def test_a_step_takes_hardly_more_room_than_it_needs_at_once():
    config = PRESETS["full"].unet
    model = Denoiser(config, TextEncoderConfig(9, 5, hidden_size=config.cross_attention_dim), np.random.default_rng(0))
    rooms = Rooms()
    token = recording.recorder.set(record.Calls(rooms))
    try:
        model(Tensor(normal(4, 8, 8, 4)), np.arange(4), np.array([[1, 8, 3, 0, 0]] * 4)).mean().backward()
    finally:
        recording.recorder.reset(token)
    lives = rooms._lives
    needed = max(sum(life.size for life in lives if life.begin <= i < life.end) for i in range(len(lives)))
    assert 4 * needed <= Rooms(rooms).bytes <= 1.1 * 4 * needed
    assert 4 * needed < 0.4 * 4 * sum(life.size for life in lives)


def test_arrays_of_another_time_are_refused():
    first = Rooms()
    kept = [first.empty((4, 4)) for _ in range(3)]
    del kept[1]
    kept.append(first.empty((4, 4)))  # where the second was
    second = Rooms(first)
    with pytest.raises(kernels.Unrecordable, match="not the same each time"):
        second.empty((5, 5))
    kept = [second.empty((4, 4)) for _ in range(3)]
    assert all(a.ctypes.data % 64 == 0 for a in kept)
    closed = kept[0].view()
    closed.setflags(write=False)  # kernels compiled for what can be written are others
    assert second.view(kept[0]).flags.writeable and not second.view(closed).flags.writeable
    with pytest.raises(kernels.Unrecordable, match="do not end at the same time"):
        second.empty((4, 4))  # while the second is still there
    del kept[1]
    second.empty((4, 4))
    with pytest.raises(kernels.Unrecordable, match="not the same each time"):
        second.empty((4, 4))


def test_nothing_is_noted_outside():
    ops.silu(Tensor(np.ones((2, 2), np.float32)))
    assert recording.recorder.get() is None
