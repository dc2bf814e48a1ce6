"""Files of version 0.1: read by no one any more, and converted with every bit of their arrays."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tinydiff import checkpoint, cli
from tinydiff.apps.convert import convert
from tinydiff.errors import InputError
from tinydiff.models.autoencoder import Autoencoder, AutoencoderConfig
from tinydiff.models.classifier import Classifier, ClassifierConfig
from tinydiff.models.text_encoder import TextEncoderConfig
from tinydiff.models.unet import Denoiser, UNetConfig
from tinydiff.models.unet2015 import UNet2015, UNet2015Config
from tinydiff.segmentation.presets import segmentation_preset
from tinydiff.segmentation.segmenter import load_segmenter
from tinydiff.training.optim import OptimConfig
from tinydiff.weights import load_autoencoder, load_classifier, load_denoiser_network, load_words

RNG = np.random.default_rng(0)
UNET = UNetConfig(
    block_out_channels=(8, 16),
    layers_per_block=1,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    num_attention_heads=2,
    norm_num_groups=4,
    cross_attention_dim=8,
)
TEXT = TextEncoderConfig(
    vocab_size=5, max_position_embeddings=4, hidden_size=8, num_hidden_layers=1, num_attention_heads=2
)
AUTOENCODER = AutoencoderConfig(block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, scaling_factor=0.7)
# As tinydiff 0.1 wrote them.
OLD_LEVELS = {"widths": [8, 16], "layers": 1, "groups": 4}
OLD_UNET = {"in_channels": 4, "out_channels": 4, **OLD_LEVELS, "attention": [False, True], "heads": 2, "text_width": 8}
OLD_TEXT = {"vocabulary": 5, "length": 4, "width": 8, "layers": 1, "heads": 2}
OLD_AUTOENCODER = {
    **{"channels": 3, "latent_channels": 4, "widths": [8, 8], "layers": 1, "groups": 4, "attention": True}
}
MADE = {"made": {"preset": "quick", "data": "somewhere", "seconds": 5}}
OLD = {
    "autoencoder": (Autoencoder(AUTOENCODER, RNG), {"model": OLD_AUTOENCODER, "latent_scale": 0.7, **MADE}),
    "denoiser": (
        Denoiser(UNET, TEXT, RNG),
        {
            **{"unet": OLD_UNET, "text": OLD_TEXT, "schedule": "cosine", "kind": "v", "latent": [4, 4, 4]},
            **{"words": ["a", "b"], **MADE},
        },
    ),
    "judge": (
        Classifier(ClassifierConfig(block_out_channels=(8,), norm_num_groups=4), RNG),
        {"model": {"widths": [8], "groups": 4, "garments": 10, "colours": 8, "backgrounds": 4}, **MADE},
    ),
    "segmentation": (
        UNet2015(UNet2015Config(block_out_channels=(2, 4)), RNG),
        {
            "model": {**{"channels": 3, "classes": 2, "widths": [2, 4], "padded": True, "dropout": 0.5, "skips": True}},
            "made": {**MADE["made"], "judged": [[10, 0.5]]},
        },
    ),
}


def write_old(path, arrays, config):
    save_file(arrays, path, {"tinydiff": json.dumps({"version": "1", "config": config})})


@pytest.fixture
def folder(tmp_path):
    for part, (model, config) in OLD.items():
        arrays = {name: np.ascontiguousarray(a, np.float16) for name, a in model.state_dict().items()}
        write_old(tmp_path / f"{part}.safetensors", arrays, {"part": part, **config})
    vectors = {"vectors": np.ones((5, 8), np.float16)}
    write_old(tmp_path / "words.safetensors", vectors, {"part": "words", "words": ["a", "b"], "losses": [1.0], **MADE})
    return tmp_path


def test_every_weights_file_loads_and_keeps_its_bits(folder):
    before = {path.stem: load_file(path) for path in folder.glob("*.safetensors")}
    converted = convert(folder, say=lambda line: None)
    assert sorted(path.stem for path in converted) == ["autoencoder", "classifier", "denoiser", "segmentation", "words"]
    assert not (folder / "judge.safetensors").exists()
    for part, arrays in before.items():
        after = load_file(folder / f"{'classifier' if part == 'judge' else part}.safetensors")
        assert after.keys() == arrays.keys()
        assert all(after[name].tobytes() == a.tobytes() and after[name].dtype == a.dtype for name, a in arrays.items())
    assert load_autoencoder(folder).config == AUTOENCODER
    denoiser, config = load_denoiser_network(folder)
    assert denoiser.unet.config == UNET and denoiser.text_encoder.config == TEXT
    assert config["scheduler"] == {
        **{"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}
    }
    assert config["latent_shape"] == [4, 4, 4] and config["space"] == "latent" and config["training"]["seconds"] == 5
    assert load_classifier(folder).config == ClassifierConfig(block_out_channels=(8,), norm_num_groups=4)
    assert load_segmenter(folder).model.config == UNet2015Config(block_out_channels=(2, 4))
    training = checkpoint.load(folder / "segmentation.safetensors")[1]["training"]
    assert training["validation_iou"] == [[10, 0.5]] and "judged" not in training
    assert load_words(folder)[1] == ["a", "b"]


def test_old_files_are_refused_with_the_command_that_converts_them(folder):
    with pytest.raises(InputError, match=rf"tinydiff 0.1; `tinydiff convert {folder}`"):
        load_autoencoder(folder)


SCHEDULER = {"num_train_timesteps": 1000, "beta_schedule": "iadb", "prediction_type": "iadb"}
NEW = {
    **{"part": "denoiser", "optim": asdict(OptimConfig(steps=4, batch=1)), "seed": 0, "model": asdict(UNET)},
    **{"text_encoder": asdict(TEXT), "scheduler": SCHEDULER, "caption_dropout": 0.1, "data": "somewhere"},
}


def test_a_checkpoint_says_what_a_run_of_today_would_say(tmp_path):
    old = {
        **{"part": "denoiser", "optim": asdict(OptimConfig(steps=4, batch=1)), "seed": 0, "model": OLD_UNET},
        **{"text": OLD_TEXT, "diffusion": ["deblend", "iadb", 0.1], "data": "somewhere"},
    }
    arrays = {"losses": np.zeros(4, np.float32), "average/w": np.ones(3, np.float32), "m/w": np.zeros(3, np.float32)}
    write_old(tmp_path / "denoiser.checkpoint.safetensors", arrays, {"step": 2, "generator": {"x": 1}, "identity": old})
    convert(tmp_path, say=lambda line: None)
    found, state = checkpoint.load(tmp_path / "denoiser.checkpoint.safetensors")
    assert found.keys() == {"losses", "ema/w", "m/w"} and (found["ema/w"] == 1).all()
    assert state == {"step": 2, "generator": {"x": 1}, "run_config": json.loads(json.dumps(NEW))}


def test_a_segmentation_run_of_today_is_recognised(tmp_path):
    preset = segmentation_preset("quick")
    old = json.loads(json.dumps(asdict(preset)))
    model, augmentation = old["model"], old["augmentation"]
    names = (("in_channels", "channels"), ("num_classes", "classes"), ("block_out_channels", "widths"))
    old["model"] = {dict(names).get(name, name): value for name, value in model.items()}
    augmentation["bend"] = augmentation.pop("elastic_sigma")
    identity = {"part": "segmentation", "optim": {}, "seed": 0, "preset": old, "data": "x", "strip": 0.2}
    state = {"step": 1, "generator": {}, "identity": identity}
    write_old(tmp_path / "segmentation.checkpoint.safetensors", {"losses": np.zeros(1, np.float32)}, state)
    convert(tmp_path, say=lambda line: None)
    run_config = checkpoint.load(tmp_path / "segmentation.checkpoint.safetensors")[1]["run_config"]
    assert run_config["preset"] == json.loads(json.dumps(asdict(preset))) and run_config["validation_strip"] == 0.2


def test_from_the_command_line(folder, capsys):
    assert cli.main(["convert", str(folder)]) == 0
    assert "judge.safetensors: converted, now classifier.safetensors" in capsys.readouterr().out
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert cli.main(["convert", str(folder)]) == 2  # once is enough
    assert "holds no file of tinydiff 0.1" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_nothing_is_overwritten(folder):
    (folder / "classifier.safetensors").write_bytes(b"mine")
    with pytest.raises(InputError, match="classifier.safetensors is there already"):
        convert(folder, say=lambda line: None)
    assert (folder / "classifier.safetensors").read_bytes() == b"mine" and (folder / "judge.safetensors").exists()
