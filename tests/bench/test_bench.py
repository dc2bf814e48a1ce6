"""The benchmarks compute what they say, compare only what is equal, and write what they measured."""

import json

import numpy as np
import pytest
from PIL import Image

from tinydiff import bench, cli
from tinydiff.bench import conv, report, timing
from tinydiff.bench.timing import Timing
from tinydiff.cli import choices
from tinydiff.errors import InputError, MismatchError


def test_timing_interleaves_and_takes_the_median(monkeypatch):
    clock, order = [0.0], []
    seconds = iter([9, 1, 9, 10, 9, 5, 9, 30, 9, 3, 9, 20])  # a, b, a, b, a, b, each after a call that does not count
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def contender(name):
        def run():
            order.append(name)
            clock[0] += next(seconds)

        return run

    assert timing.time_interleaved(contender("a"), contender("b"), rounds=3, warmup=0) == [3, 20]
    assert order == ["a", "a", "b", "b"] * 3


def test_a_timing_knows_its_ratio_and_rate():
    row = Timing("forward", "x", ours=0.5, theirs=1.0, work=1e9)
    assert row.ratio == 2 and row.rate == 4
    assert Timing("forward", "x", 1.0).ratio is None and Timing("forward", "x", 1.0).rate is None
    assert timing.geometric_mean([1, 4]) == 2


def test_only_equal_work_is_timed():
    a = np.array([1.0, 2.0])
    timing.assert_close("y", a, a + 1e-5)
    for other in (a + 1e-3, a[:1], np.array([1.0, np.nan])):
        with pytest.raises(MismatchError, match="^bench: y "):
            timing.assert_close("y", other, a)


def test_the_ladder_climbs():
    rows = {row.name: row for row in bench.bench(["ladder"], rounds=1)}
    assert list(rows) == ["loops", "NumPy (BLAS)", "compiled loops", "im2col", "micro-kernel", "Winograd"]
    assert all(row.ratio > 10 for name, row in rows.items() if name != "loops")


def test_the_command_line_knows_every_group():
    assert choices.BENCHMARKS == bench.GROUPS == tuple(bench._groups())


def test_a_mismatch_is_one_line_and_status_1(monkeypatch, capsys):
    monkeypatch.setattr(conv, "assert_close", lambda name, *_: timing.assert_close(name, np.ones(1), np.zeros(1)))
    assert cli.main(["bench", "ladder", "--rounds", "1"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("tinydiff: bench: loops differs from the reference's by")


def test_an_unknown_group_is_refused():
    with pytest.raises(InputError, match="no group 'speed'; there are conv, ladder"):
        bench.bench(["speed"])


def test_the_command_writes_json_and_an_image(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(conv, "SHAPES", [(1, 16, 16, 8)])
    monkeypatch.setattr(conv, "OTHERS", [(1, 1, 1, 8, 8, 4)])
    arguments = ["bench", "conv", "--rounds", "1", "--json", str(tmp_path / "b.json"), "-o", str(tmp_path / "b.png")]
    assert cli.main(arguments) == 0
    written = json.loads((tmp_path / "b.json").read_text())
    assert written["conditions"]["threads"] >= 1 and written["conditions"]["peak, GFLOP/s"] > 0
    assert [row["name"] for row in written["rows"]] == ["3×3, 1×8×8, 16 → 16"] * 2 + ["1×1, 1×4×4, 8 → 8"]
    assert all(row["ours"] > 0 for row in written["rows"])
    Image.open(tmp_path / "b.png").verify()
    assert "3×3, 1×8×8, 16 → 16" in capsys.readouterr().out


def test_lines_read_well():
    assert "1.50 ms   PyTorch   3.00 ms   ratio     2.00" in report.line(Timing("forward", "x", 1.5e-3, 3e-3))
    assert "2 MB   PyTorch      4 MB   ratio     2.00" in report.line(Timing("memory", "x", 2 << 20, 4 << 20))


CONDITIONS = {"torch": "2.0", "threads": 2, "instructions": "avx2", "peak, GFLOP/s": 100}


@pytest.mark.parametrize(
    "rows",
    [[Timing("training step", "x", 1.0, 2.0)], [Timing("forward", "x", 1.0, work=1e9)]],
    ids=["PyTorch", "the peak"],
)
def test_an_image_beside_pytorch_or_the_peak(rows, tmp_path):
    report.write_image(tmp_path / "b.png", rows, CONDITIONS)
    Image.open(tmp_path / "b.png").verify()


def test_an_image_of_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match="nothing to draw"):
        report.write_image(tmp_path / "b.png", [Timing("training step", "x", 1.0)], CONDITIONS)
    assert not list(tmp_path.iterdir())
