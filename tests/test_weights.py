"""Weight files: what is saved comes back as float16 can hold it, and each thing wrong with a file is one clear line."""

import json
import re
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tinydiff import checkpoint
from tinydiff.datasets import Vocabulary
from tinydiff.datasets.captions import LENGTH
from tinydiff.errors import InputError
from tinydiff.models.autoencoder import Autoencoder, AutoencoderConfig
from tinydiff.models.classifier import Classifier, ClassifierConfig
from tinydiff.models.text_encoder import TextEncoderConfig
from tinydiff.models.unet import Denoiser, UNetConfig
from tinydiff.training.presets import SchedulerConfig
from tinydiff.weights import (
    fingerprint,
    load_autoencoder,
    load_classifier,
    load_denoiser_network,
    load_words,
    save_weights,
    shipped_weights,
)

WORDS = Vocabulary().words
AUTOENCODER = AutoencoderConfig(scaling_factor=0.3, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4)
UNET = UNetConfig(
    block_out_channels=(8, 16),
    layers_per_block=1,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    num_attention_heads=2,
    norm_num_groups=4,
    cross_attention_dim=8,
)
TEXT = TextEncoderConfig(len(WORDS) + 3, LENGTH, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
CLASSIFIER = ClassifierConfig(block_out_channels=(8, 8), norm_num_groups=4)

LOADERS = {
    "autoencoder": load_autoencoder,
    "words": load_words,
    "denoiser": load_denoiser_network,
    "classifier": load_classifier,
}
CONFIGS = {
    "autoencoder": {"model": asdict(AUTOENCODER)},
    "words": {"words": WORDS},
    "denoiser": {
        **{"unet": asdict(UNET), "text_encoder": asdict(TEXT), "scheduler": asdict(SchedulerConfig())},
        **{"latent_shape": [8, 8, 4], "words": WORDS},
    },
    "classifier": {"model": asdict(CLASSIFIER)},
}
KEYS = [(part, key) for part, config in CONFIGS.items() for key in config]


def arrays_of(part):
    rng = np.random.default_rng(0)
    if part == "words":
        return {"vectors": rng.standard_normal((len(WORDS) + 3, 8)).astype(np.float32)}
    model = {
        "autoencoder": lambda: Autoencoder(AUTOENCODER, rng),
        "denoiser": lambda: Denoiser(UNET, TEXT, rng),
        "classifier": lambda: Classifier(CLASSIFIER, rng),
    }[part]()
    # Numbers everywhere, where a new model has zeros and ones.
    return {name: (a + 0.1 * rng.standard_normal(a.shape)).astype(np.float32) for name, a in model.state_dict().items()}


def loaded_arrays(part, folder):
    loaded = LOADERS[part](folder)
    if part == "words":
        return {"vectors": loaded[0]}
    return (loaded[0] if part == "denoiser" else loaded).state_dict()


def one_line(part, folder):
    with pytest.raises(InputError) as error:
        LOADERS[part](folder)
    message = str(error.value)
    assert str(folder / f"{part}.safetensors") in message and "\n" not in message
    return message


@pytest.fixture(params=LOADERS)
def part(request):
    return request.param


@pytest.fixture
def file(tmp_path, part):
    return save_weights(tmp_path, part, arrays_of(part), CONFIGS[part])


def test_what_is_saved_comes_back_as_float16_holds_it(tmp_path, part):
    arrays = arrays_of(part)
    path = save_weights(tmp_path, part, arrays, CONFIGS[part])
    assert path == tmp_path / f"{part}.safetensors"
    stored, config = checkpoint.load(path)
    assert all(a.dtype == np.float16 for a in stored.values())
    assert config == {"part": part, **json.loads(json.dumps(CONFIGS[part]))}
    loaded = loaded_arrays(part, tmp_path)
    assert loaded.keys() == arrays.keys()
    for name, a in arrays.items():
        assert loaded[name].dtype == np.float32
        np.testing.assert_array_equal(loaded[name], a.astype(np.float16).astype(np.float32))
    # rounded once and for all: saving what was loaded gives the same file
    before = path.read_bytes()
    save_weights(tmp_path, part, loaded, CONFIGS[part])
    assert path.read_bytes() == before


def test_the_configuration_comes_back(tmp_path):
    for part in LOADERS:
        save_weights(tmp_path, part, arrays_of(part), CONFIGS[part])
    autoencoder, (denoiser, config) = load_autoencoder(tmp_path), load_denoiser_network(tmp_path)
    assert autoencoder.config == AUTOENCODER
    assert denoiser.unet.config == UNET and denoiser.text_encoder.config == TEXT
    assert {key: config[key] for key in CONFIGS["denoiser"]} == json.loads(json.dumps(CONFIGS["denoiser"]))
    assert load_words(tmp_path)[1] == WORDS and load_classifier(tmp_path).config == CLASSIFIER


def test_the_scaling_factor_is_applied(tmp_path):
    images = np.random.default_rng(1).uniform(-1, 1, (2, 8, 8, 3)).astype(np.float32)
    latents = {}
    for scale in (1.0, 2.0):
        save_weights(
            tmp_path,
            "autoencoder",
            arrays_of("autoencoder"),
            {"model": asdict(replace(AUTOENCODER, scaling_factor=scale))},
        )
        latents[scale] = load_autoencoder(tmp_path).encode(images)
    np.testing.assert_array_equal(latents[2.0], 2 * latents[1.0])


def test_a_folder_may_be_named_by_a_string(file, part):
    LOADERS[part](str(file.parent))


def test_missing(tmp_path, part):
    assert "no such checkpoint" in one_line(part, tmp_path)


@pytest.mark.parametrize("keep", [0, 20, -1])
def test_truncated(file, part, keep):
    file.write_bytes(file.read_bytes()[:keep])
    assert "truncated" in one_line(part, file.parent)


def test_another_version(file, part):
    arrays, config = checkpoint.load(file)
    save_file(arrays, file, {"tinydiff": json.dumps({"version": "3", "config": config})})
    assert "version 3, expected 2" in one_line(part, file.parent)


def test_version_1_names_the_command_that_converts_it(file, part):
    arrays, config = checkpoint.load(file)
    save_file(arrays, file, {"tinydiff": json.dumps({"version": "1", "config": config})})
    assert f"`tinydiff convert {file.parent}`" in one_line(part, file.parent)


def test_another_part(file, part):
    other = "words" if part == "classifier" else "classifier"
    save_weights(file.parent, other, arrays_of(other), CONFIGS[other])
    (file.parent / f"{other}.safetensors").replace(file)
    assert f"holds the part {other!r}, expected {part!r}" in one_line(part, file.parent)


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("autoencoder", "decoder.up_blocks.0.upsamplers.0.conv.weight"),
        ("denoiser", "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"),
        ("classifier", "heads.1.bias"),
    ],
)
def test_a_wrong_array_is_named(tmp_path, part, name):
    arrays = arrays_of(part)
    shape = arrays[name].shape
    wrong = (*shape[:-1], shape[-1] + 1)
    save_weights(tmp_path, part, {**arrays, name: np.zeros(wrong, np.float32)}, CONFIGS[part])
    assert f"array {name} has shape {wrong}, expected {shape}" in one_line(part, tmp_path)
    save_weights(tmp_path, part, {key: a for key, a in arrays.items() if key != name}, CONFIGS[part])
    assert f"array {name} is missing" in one_line(part, tmp_path)
    save_weights(tmp_path, part, {**arrays, "extra.weight": np.zeros(2, np.float32)}, CONFIGS[part])
    assert "array extra.weight with shape (2,) is unexpected" in one_line(part, tmp_path)


@pytest.mark.parametrize("names", [[], ["vector"], ["vectors", "more"]])
def test_word_vectors_are_one_array(tmp_path, names):
    save_weights(tmp_path, "words", {name: np.ones((2, 2), np.float32) for name in names}, CONFIGS["words"])
    assert "expected one array, vectors" in one_line("words", tmp_path)


@pytest.mark.parametrize(("part", "key"), KEYS, ids=[f"{part}-{key}" for part, key in KEYS])
def test_a_missing_entry_of_the_configuration_is_named(tmp_path, part, key):
    config = {name: value for name, value in CONFIGS[part].items() if name != key}
    save_weights(tmp_path, part, arrays_of(part), config)
    assert f"its configuration has no {key!r}" in one_line(part, tmp_path)


@pytest.mark.parametrize("model", [{"widths": [8, 8], "depth": 3}, [8, 8], "large", None])
def test_a_configuration_that_does_not_fit(tmp_path, model):
    save_weights(tmp_path, "classifier", arrays_of("classifier"), {"model": model})
    assert "'model' configuration does not fit ClassifierConfig" in one_line("classifier", tmp_path)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("bad", [1e6, np.nan])
def test_what_float16_cannot_hold_is_not_saved(file, part, bad):
    arrays, before = arrays_of(part), file.read_bytes()
    name, a = next(iter(arrays.items()))
    arrays[name] = np.full_like(a, bad)
    with pytest.raises(InputError, match=f"{name} are not finite"):
        save_weights(file.parent, part, arrays, CONFIGS[part])
    assert file.read_bytes() == before


def test_where_the_shipped_weights_are():
    assert shipped_weights().name == "weights" and isinstance(shipped_weights(), Path)


def test_a_fingerprint_tells_weights_apart_and_not_the_types_of_their_files(tmp_path):
    arrays = arrays_of("autoencoder")
    save_weights(tmp_path, "autoencoder", arrays, CONFIGS["autoencoder"])
    one = fingerprint(load_autoencoder(tmp_path))
    rounded = {name: a.astype(np.float16).astype(np.float32) for name, a in arrays.items()}
    checkpoint.save(tmp_path / "autoencoder.safetensors", rounded, {"part": "autoencoder", **CONFIGS["autoencoder"]})
    assert fingerprint(load_autoencoder(tmp_path)) == one
    rounded["decoder.conv_in.bias"][-1] += 0.01
    save_weights(tmp_path, "autoencoder", rounded, CONFIGS["autoencoder"])
    assert fingerprint(load_autoencoder(tmp_path)) != one


def test_the_shipped_denoiser_knows_the_shipped_autoencoder():
    config = load_denoiser_network(shipped_weights())[1]
    assert config["autoencoder"] == fingerprint(load_autoencoder(shipped_weights()))


DAMAGED = [
    ("autoencoder", ("model",), [1, 2], "does not fit AutoencoderConfig"),
    ("autoencoder", ("model", "block_out_channels"), [8, "a"], "block_out_channels of its 'model'"),
    ("autoencoder", ("model", "block_out_channels"), [], "block_out_channels of its 'model'"),
    ("autoencoder", ("model", "block_out_channels"), [4] * 100, "block_out_channels of its 'model'"),
    ("autoencoder", ("model", "scaling_factor"), 0, "scaling_factor must be above 0"),
    ("autoencoder", ("model", "scaling_factor"), float("inf"), "scaling_factor of its 'model' configuration is inf"),
    (
        "autoencoder",
        ("model", "layers_per_block"),
        10**9,
        "layers_per_block of .* is 1000000000",
    ),
    ("autoencoder", ("model", "latent_channels"), True, "latent_channels of its 'model' configuration is True"),
    ("autoencoder", ("model", "mid_block_add_attention"), 1, "mid_block_add_attention"),
    ("classifier", ("model", "garments"), -3, "garments of its 'model' configuration is -3"),
    ("denoiser", ("text_encoder", "num_hidden_layers"), 10**9, "num_hidden_layers"),
    ("denoiser", ("text_encoder", "vocab_size"), 10**9, "vocab_size"),
    ("denoiser", ("unet", "down_block_types"), [None, None], "down_block_types"),
    ("denoiser", ("unet", "down_block_types"), ["DownBlock2D"], "2 block_out_channels, but 1 down_block_types"),
    ("denoiser", ("latent_shape",), [10**5, 10**5, 4], "latent_shape is .100000, 100000, 4., expected three numbers"),
    ("denoiser", ("latent_shape",), "abc", "latent_shape is 'abc'"),
    ("denoiser", ("latent_shape",), [2.5, 2, 4], "latent_shape is .2.5, 2, 4."),
    ("denoiser", ("words",), [1, "red"], "words must be a list of strings"),
    ("words", ("words",), "red", "words must be a list of strings"),
    ("denoiser", ("scheduler",), None, "its scheduler None cannot be used"),
    ("denoiser", ("scheduler", "beta_schedule"), ["linear"], "its scheduler .* cannot be used"),
    ("denoiser", ("scheduler", "prediction_type"), "noise", "prediction_type must be one of"),
    ("denoiser", ("scheduler", "num_train_timesteps"), 10**12, "1000000000000 timesteps, expected at most 1000000"),
    ("denoiser", ("scheduler", "num_train_timesteps"), 2.5, "T must be a whole number"),
]


@pytest.mark.parametrize(("part", "keys", "value", "message"), DAMAGED)
def test_a_header_that_someone_edited(tmp_path, part, keys, value, message):
    """Refused at once: a thousand million layers are never made, and no memory is asked for."""
    config = json.loads(json.dumps(CONFIGS[part]))
    inside = config
    for key in keys[:-1]:
        inside = inside[key]
    inside[keys[-1]] = value
    header = {"tinydiff": json.dumps({"version": "2", "config": {"part": part, **config}})}
    arrays = {name: np.ascontiguousarray(a) for name, a in arrays_of(part).items()}
    save_file(arrays, tmp_path / f"{part}.safetensors", header)
    start = time.process_time()
    assert re.search(message, one_line(part, tmp_path))
    assert time.process_time() - start < 5


@pytest.mark.parametrize("kind", [np.int8, np.bool_, np.float64])
def test_arrays_of_other_types_are_refused_by_name(tmp_path, part, kind):
    arrays = arrays_of(part)
    name = sorted(arrays)[0]
    checkpoint.save(
        tmp_path / f"{part}.safetensors", {**arrays, name: arrays[name].astype(kind)}, {"part": part, **CONFIGS[part]}
    )
    message = one_line(part, tmp_path)
    assert f"array {name} is {np.dtype(kind)}, expected float16, bfloat16 or float32" in message


def test_bfloat16_is_read(tmp_path, part):
    """Its bits are the upper half of a float32's."""
    bits = {name: np.float32(a).view(np.uint32) & 0xFFFF0000 for name, a in arrays_of(part).items()}
    header: dict = {
        "__metadata__": {"tinydiff": json.dumps({"version": "2", "config": {"part": part, **CONFIGS[part]}})}
    }
    content = b""
    for name, array in bits.items():
        data = (array >> 16).astype("<u2").tobytes()
        offsets = [len(content), len(content) + len(data)]
        header[name] = {"dtype": "BF16", "shape": list(array.shape), "data_offsets": offsets}
        content += data
    text = json.dumps(header).encode()
    (tmp_path / f"{part}.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + content)
    found = checkpoint.load(tmp_path / f"{part}.safetensors")[0]
    for name, array in bits.items():
        np.testing.assert_array_equal(found[name], array.view(np.float32))
    LOADERS[part](tmp_path)
