"""Training the embedded model: every part for a few steps, by its command, and what it must not do."""

import json
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sega.embedded.model import THETA, build_tokenizer, build_transformer
from sega.embedded.training import autoencoder as train_autoencoder
from sega.embedded.training import command as train
from sega.embedded.training import pool, record
from sega.embedded.training import scorer as train_scorer
from sega.errors import RequestError

PROMPT = "a red striped ball on the left standing on grass under a cloudy sky with light from the right"
SMALL = ["--device", "cpu", "--threads", "1", "--scenes", "16", "--families", "1", "--tokens", "900", "--checks", "1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A work folder in which every part was trained for three steps, from small shards of the same kinds."""
    work = tmp_path_factory.mktemp("train")
    (work / "pool").mkdir()
    tokenizer = build_tokenizer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "LARGE", ((384, 2), (768, 1)))
        patch.setattr(pool, "LARGE_SHARDS", 1)
        patch.setitem(train_autoencoder.CROPS, "cpu", 4)
        patch.setattr(train_scorer, "FAMILIES", 1)
        for name in pool.shards({"scenes", "large", "families"}, 16, 1):
            patch.setattr(pool, "SHARD", 8 if name.startswith("families") else 2)
            np.savez(work / "pool" / f"{name}.npz", **pool.make_shard(name, 1, tokenizer))
        train.main(["--work", str(work), *SMALL, "--steps", "3"])
    return work


def test_every_part_leaves_its_record(trained):
    found = json.loads((trained / "training.json").read_text())
    assert list(found) == list(record.PARTS)
    for part in found.values():
        assert part["steps"] == 3 and part["device"] == "cpu" and part["threads"] == 1 and part["torch"]
    assert found["generator"]["started_from"]["modules"] == ["text_encoder_2", "text_encoder"]
    assert found["generator"]["guidance"] == [1.0, 1.0] and found["distillation"]["guidance"] == [1.0, 4.5]
    assert found["generator"]["distinct"] == 16 * 2 and found["generator"]["theta"] == THETA
    assert set(found["autoencoder"]["psnr_db"]) == set(found["scorer"]["accuracy"]) == {"192", "384", "768"}


def test_the_trained_folder_loads_and_guidance_changes_what_it_makes(trained):
    from sega import attach, load_method, load_pipeline
    from sega.engine.sampling import generate

    method = load_method("vanilla", "tiny")
    pipe = load_pipeline("tiny", "cpu", path=str(trained / "pipeline"))
    pipe.set_progress_bar_config(disable=True)
    assert pipe.transformer.time_text_embed.guidance_embedder.linear_2.weight.abs().max() > 0

    def latent(scale):
        noise = torch.Generator().manual_seed(0)
        options = {"num_inference_steps": 2, "guidance_scale": scale, "max_sequence_length": 24, "generator": noise}
        with attach(pipe, method):
            return pipe(PROMPT, height=96, width=96, output_type="latent", **options).images

    assert torch.equal(latent(1.0), latent(1.0)) and not torch.equal(latent(1.0), latent(4.5))
    image = generate(pipe, method, PROMPT, seed=0, size=(96, 96), steps=2, guidance=3.5).image
    assert image.size == (96, 96)


def test_the_trained_scorer_loads(trained):
    from sega.embedded.scorer import load_scorer

    found = load_scorer(folder=trained / "scorer").attribute_probabilities(torch.zeros(1, 3, 96, 96, dtype=torch.uint8))
    assert found["class"].shape == (1, 6)


def test_a_part_is_trained_alone_and_goes_on_from_weights(trained, tmp_path):
    weights = tmp_path / "weights"
    record.install(trained, weights)
    before = record.read(weights)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "pool").symlink_to(trained / "pool")
    words = ["--work", str(tmp_path / "work"), *SMALL, "--start-from", str(weights)]
    train.main([*words, "--part", "generator", "--steps", "2"])
    found = record.read(tmp_path / "work")
    assert list(found) == ["generator"] and (tmp_path / "work" / "base" / "transformer").is_dir()
    assert found["generator"]["started_from"]["modules"] == ["transformer", "text_encoder_2", "text_encoder"]
    assert found["generator"]["started_from"]["record"]["steps"] == before["distillation"]["steps"]


def test_a_second_generator_has_another_seed_and_rotary_base(trained, tmp_path):
    """On the autoencoder and the text encoders of the first; both phases keep its base."""
    weights, work = tmp_path / "weights", tmp_path / "work"
    record.install(trained, weights)
    work.mkdir()
    (work / "pool").symlink_to(trained / "pool")
    common = ["--work", str(work), *SMALL, "--steps", "2", "--start-from", str(weights)]
    train.main([*common, "--part", "generator", "--new-transformer", "--theta", "10000", "--seed", "2"])
    train.main([*common, "--part", "distillation", "--install", str(tmp_path / "second")])
    found = record.read(tmp_path / "second")
    assert list(found) == ["generator", "distillation"]
    assert [part["theta"] for part in found.values()] == [10000, 10000] and found["generator"]["seed"] == 2
    assert found["generator"]["started_from"]["modules"] == ["text_encoder_2", "text_encoder"]
    one, two = (
        load_file(folder / "pipeline" / "transformer" / "diffusion_pytorch_model.safetensors")
        for folder in (weights, tmp_path / "second")
    )
    name = "transformer_blocks.0.attn.to_q.weight"  # a random matrix: two steps hardly move it
    assert (one[name] - two[name]).abs().mean() > one[name].abs().mean()
    vae = "pipeline/vae/diffusion_pytorch_model.safetensors"
    assert (weights / vae).read_bytes() == (tmp_path / "second" / vae).read_bytes()


def test_weights_that_are_gone_on_from_keep_their_rotary_base(trained, tmp_path):
    from sega.embedded.training.generator import Recipe, _theta

    record.write(tmp_path, "generator", {"theta": 123.0})
    assert _theta(trained, "generator", Recipe(start_from=tmp_path)) == 123
    assert _theta(trained, "generator", Recipe(start_from=tmp_path, theta=50.0)) == 50
    assert _theta(trained, "generator", Recipe(start_from=tmp_path, new_transformer=True)) == THETA
    assert _theta(tmp_path, "distillation", Recipe(theta=50.0)) == 123


def test_the_pool_can_be_rendered_before(trained, tmp_path, capsys):
    train.main(["--work", str(trained), *SMALL, "--part", "generator", "--render-only"])
    assert "rendered 16 shards" in capsys.readouterr().out
    assert record.read(trained)["generator"]["steps"] == 3


def test_parts_share_the_time_that_is_left():
    minutes, left = {"generator": 3.0, "distillation": 1.0, "scorer": 1.0}, train.RESERVE * 2 + 100
    assert train.seconds_of(["generator", "distillation"], minutes, None) == 180
    assert train.seconds_of(["generator", "distillation"], minutes, left) == 75
    assert train.seconds_of(["distillation"], minutes, train.RESERVE + 25) == 25
    assert 0 < train.seconds_of(["generator", "distillation"], minutes, -60) < 1


def test_the_whole_command_ends_within_its_time(trained, tmp_path):
    (tmp_path / "pool").symlink_to(trained / "pool")
    (tmp_path / "vae").symlink_to(trained / "vae")
    started = time.time()
    train.main(["--work", str(tmp_path), *SMALL, "--part", "generator", "distillation", "--within", "0.3"])
    found = record.read(tmp_path)
    assert all(part["steps"] >= 1 for part in found.values()) and (tmp_path / "pipeline" / "vae").is_dir()
    assert time.time() - started < 60  # 18, and slack for a busy machine; the default is two hours


def test_installing_takes_what_was_trained_and_keeps_the_rest(trained, tmp_path):
    import shutil

    weights = tmp_path / "weights"
    record.install(trained, weights)
    assert {path.name for path in weights.iterdir()} == {"pipeline", "scorer", "training.json"}
    alone = tmp_path / "alone"
    shutil.copytree(trained / "scorer", alone / "scorer")
    record.write(alone, "scorer", {"steps": 12345})
    record.install(alone, weights)
    found = record.read(weights)
    assert found["scorer"] == {"steps": 12345} and found["generator"] == record.read(trained)["generator"]
    with pytest.raises(RequestError, match="nothing to install"):
        record.install(tmp_path / "empty", weights)


def test_the_learning_rate_rises_stays_and_falls_from_thirty_percent():
    from sega.embedded.training.generator import rate_factor

    assert rate_factor(0, 0.0, 100) == pytest.approx(0.011) and rate_factor(49, 0.0, 100) == pytest.approx(0.501)
    assert rate_factor(500, 0.3, 100) == pytest.approx(1.001) and rate_factor(500, 0.65, 100) == pytest.approx(0.501)
    assert rate_factor(500, 1.0, 100) == pytest.approx(0.001)


def test_training_starts_at_the_identity_with_guidance_unread():
    from sega.embedded.training.generator import start_at_zero

    transformer = build_transformer(heads=1, double=1, single=1)
    assert transformer.config.guidance_embeds
    start_at_zero(transformer)
    assert not transformer.time_text_embed.guidance_embedder.linear_2.weight.any()
    assert transformer.time_text_embed.guidance_embedder.linear_1.weight.any()
    assert not transformer.proj_out.weight.any()


def test_tokens_where_the_object_may_stand_weigh_more():
    from sega.embedded.training.flow import FOCUS, place_weights

    weights = place_weights(12, 18, "cpu")
    left, right, grass = (
        weights[build_tokenizer().convert_tokens_to_ids(word)].view(12, 18) for word in ("left", "right", "grass")
    )
    assert left[:, :9].mean() > 1.2 * left[:, 9:].mean() and right[:, 9:].mean() > 1.2 * right[:, :9].mean()
    torch.testing.assert_close(weights.mean(1), torch.ones(len(weights)))
    assert (grass == 1).all() and 1 < left.max() / left.min() <= FOCUS


def test_shards_begin_with_every_grid_and_hold_what_is_asked_for():
    names = pool.shards({"scenes", "large"}, 40, 5)
    assert {pool.GRIDS[int(name[-5:])] for name in names[: len(pool.GRIDS)]} == set(pool.GRIDS)
    assert len(names) == 40 + 2 * pool.LARGE_SHARDS and names[16].startswith("large384")
    assert pool.shards({"families"}, 40, 5) == [f"families-{i:05d}" for i in range(5)]
    assert pool.GRIDS.count((24, 24)) == 6 and len(pool.GRIDS) == 16


@pytest.mark.slow
def test_renderers_make_the_shards_that_are_missing_and_their_end_is_noticed(tmp_path):
    kept = tmp_path / "scenes-00000.npz"
    kept.write_bytes(b"kept")
    with pool.Pool(tmp_path, ["scenes-00000", "scenes-00007"], 2) as renders:
        assert len(renders.jobs) == 1
        path = renders.wait("scenes", 2)[1]
        renders.jobs[0].join()
        with pytest.raises(RuntimeError, match="2 of 3 shards"):
            renders.wait("scenes", 3)
    pictures, ids = pool.read(path)
    assert pictures.shape == (pool.SHARD, 3, 96, 96) and ids.shape == (pool.SHARD, 24)
    assert kept.read_bytes() == b"kept" and not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("words", [["--steps", "0"], ["--generator-minutes", "-1"], ["--text-minutes", "inf"]])
def test_a_length_of_training_is_a_number_above_zero(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        train.main(words)
    assert stopped.value.code == 2 and f"{words[1]} is not a number above 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--part", "generator"], "no autoencoder in .*--part autoencoder"),
        (["--part", "distillation"], "no autoencoder|no model to distil"),
        (["--new-transformer"], "--new-transformer .* give both"),
        (["--start-from", "nowhere"], "nowhere holds no weights"),
        (["--scenes", "3"], "--scenes 3 is too few: .* 16 or more"),
        (["--device", "mps"], "unknown device 'mps'"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(tmp_path, words, said):
    with pytest.raises(RequestError, match=said) as error:
        train.main(["--work", str(tmp_path), "--workers", "1", *words])
    assert "\n" not in str(error.value)
