"""The pipeline from end to end on a minute model: stopped anywhere, it goes on to the same numbers, bit for bit."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from afm_ref import __main__ as command_line
from afm_ref import lora
from afm_ref.disk.text_files import read_json
from afm_ref.interop import palettized
from afm_ref.rlhf.rollout import OnPolicy
from afm_ref.whole_road import artifacts, steps
from afm_ref.whole_road.road import CONFIG, RESULTS, Road
from tests import compiling
from tests.whole_road import small


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never stopped, of the small model, which is there as long as this is."""
    with small.model():
        run = Road(tmp_path_factory.mktemp("whole") / "run", sizes=small.SIZES)
        run.complete(progress=False)
        yield run


def test_every_step_leaves_what_the_next_one_needs(whole):
    left = {path.name for path in whole.folder.iterdir()}
    assert left == {*steps.STEPS, "bench", CONFIG, RESULTS}  # no unfinished folder, no checkpoints
    done = read_json(whole.folder / RESULTS)["steps"]
    assert [name for name in done if "utility" not in done[name]] == ["2_reward"]
    assert [done[name]["bits"] for name in ("0_base", "4_mdloo")] == [16, 16]
    assert small.SIZES.average_bits - small.SIZES.within <= done["5_palettized"]["projection_bits"] <= 3.5
    palettes, recovered, features = (done[name]["bytes"] for name in [*done][-3:])
    matrices = lora.files.load(whole.step("6_recovered") / artifacts.ADAPTER).matrices
    adapter = sum(2 * m.size for pair in matrices.values() for m in pair)
    assert recovered == features == palettes + adapter
    assert len(done["4_mdloo"]["iterations"]) == small.SIZES.mdloo_iterations


def test_numbers_belong_to_their_steps(whole):
    """No step is measured by another's weights: training moves the loss on held-out text, palettes move it more."""
    done = whole.results()["steps"]
    bits = [done[name]["bits_per_byte"] for name in done if name not in ("2_reward", "7_features")]
    assert len(set(bits)) == len(bits) and done["7_features"]["bits_per_byte"] is None
    for row in (row for row in done.values() if "utility" in row):
        assert row["utility"]["all"] == pytest.approx(np.mean(row["by_prompt"]), abs=1e-4)  # kept to 4 digits
        assert len(row["answers"]) == len(whole.results()["prompts"]) == 6


def test_a_feature_answers_with_its_own_adapter(whole):
    folder, palettes = whole.step("7_features"), palettized.load(whole.step("5_palettized"))[0]
    policies = artifacts.of_features(whole, folder).policies
    files = {task: folder / f"{task}.safetensors" for task in ("summarise", "answer")}
    for task, path in files.items():
        adapter = lora.files.load(path)
        a, b = (np.asarray(m, np.float32) for m in adapter.matrices["wq", 0])
        expected = palettes.layers[0].wq.dense(np.float32) + adapter.scale * b @ a
        np.testing.assert_allclose(policies[task].layers[0].wq, expected, rtol=1e-6, atol=1e-6)  # float32
    recovered = artifacts.plain(artifacts.adapted(whole, whole.step("6_recovered") / artifacts.ADAPTER))
    first, second, before = (of.layers[0].wq for of in (*policies.values(), recovered))
    assert not np.allclose(first, second, atol=1e-4) and not np.allclose(first, before, atol=1e-4)


def test_killed_and_called_again_it_gives_the_same_results(whole, tmp_path, monkeypatch):
    """Stopped within an iteration of MDLOO, where fit goes back to its last checkpoint.

    Then up to its end: later steps see nothing but the folders that are equal by then.
    """
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("0_base", "1_sft", "2_reward", "3_committee", "bench"):
        shutil.copytree(whole.step(name), folder / name)
    act = OnPolicy.__call__

    def stopped(source, step, params):
        if step == 9:
            raise KeyboardInterrupt
        return act(source, step, params)

    run = Road(folder, sizes=small.SIZES)
    monkeypatch.setattr(OnPolicy, "__call__", stopped)
    with pytest.raises(KeyboardInterrupt):
        run.complete(progress=False)
    assert (run.checkpoints / "8.safetensors").exists() and not run.step("4_mdloo").exists()
    seen, first = [], [*steps.STEPS][:5]
    noted = lambda source, step, params: seen.append(step) or act(source, step, params)  # noqa: E731
    monkeypatch.setattr(OnPolicy, "__call__", noted)
    monkeypatch.setattr("afm_ref.whole_road.road.STEPS", {name: steps.STEPS[name] for name in first})
    Road(folder, sizes=small.SIZES).complete(progress=False)
    assert min(seen) == 8 and not run.checkpoints.exists()  # MDLOO went on from its checkpoint
    expected = read_json(whole.folder / RESULTS)
    expected["steps"] = {name: expected["steps"][name] for name in first}
    assert read_json(folder / RESULTS) == expected


def test_a_folder_of_other_settings_is_refused(whole, tmp_path):
    other, bench = dataclasses.replace(small.SIZES, recovery_steps=3), whole.bench.folder
    tuned = dataclasses.replace(small.SIZES, start_steps=3)
    for folder, settings, message in (
        (whole.folder, dict(seed=1), "seed was 0 and is 1"),
        (whole.folder, dict(judge="utility"), "judge was reward model and is utility"),
        (whole.folder, dict(sizes=other), "recovery_steps was 2 and is 3"),
        (tmp_path / "third", dict(sizes=tuned, bench_folder=bench), "start_steps was 150 and is 3"),
        (tmp_path / "fourth", dict(judge="nobody"), "judge must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            Road(folder, **{"sizes": small.SIZES} | settings)
    assert Road(tmp_path / "another", seed=1, sizes=other, bench_folder=bench).bench.student(0) is not None


def test_the_command_says_how_to_go_on(whole, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(steps, "FAST", small.SIZES)
    before = getattr(jax.config, compiling.CACHE)
    try:
        assert command_line.main(["pipeline", "--fast", "--folder", str(whole.folder)]) == 0
        out = capsys.readouterr().out
        assert "7_features" in out and whole.results()["prompts"][0]["reference"] in out
        assert command_line.main(["pipeline", "--fast", "--folder", str(whole.folder), "--seed", "1"]) == 2
        assert "seed was 0 and is 1" in capsys.readouterr().err
        monkeypatch.setattr(Road, "take", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert command_line.main(["pipeline", "--fast", "--folder", str(tmp_path / "new")]) == 130
        assert f"the same command continues from {tmp_path / 'new'}" in capsys.readouterr().err
    finally:
        jax.config.update(compiling.CACHE, before)
