"""A policy that is sharded while it is loaded: the weights of a whole one, in one copy's memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from policy.families import tiny_model
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from luffy_pl.errors import ModelError
from luffy_pl.policy.loading import load_sharded, pieces
from luffy_pl.policy.lora import LoraConfig, whole
from luffy_pl.policy.model_files import weight_files
from luffy_pl.policy.policy import load_policy
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.policy.sharding import Sharding, meshes
from luffy_pl.policy.tensor_parallel import decoder_layers
from luffy_pl.process.neighbours import neighbours
from luffy_pl.rollout.policy_weights import PolicyWeights

ROOT = Path(__file__).parents[2]
IDS, MASK = torch.tensor([[5, 3, 7, 2, 9]]), torch.ones(1, 4, dtype=torch.bool)
# Family, ranks that cut a layer, copies, weights kept on the host, settings.
SCENES = {
    2: [
        ("qwen3_moe", 1, 1, False, {}),  # experts under other names than in the file
        ("gemma3_text", 1, 1, True, {}),  # tied, with a window and a scale that is a buffer
        # its layers lie elsewhere
        ("opt", 1, 1, False, {"lora": LoraConfig(rank=3), "dtype": "bfloat16"}),
        ("llama", 2, 1, False, {"activation_checkpointing": True}),
    ],
    4: [("llama", 1, 2, False, {}), ("qwen2", 2, 2, False, {})],
}


def compare(folder, cut, replicas, on_host, settings):
    """All that a whole policy has, and what it computes."""
    config = PolicyConfig(str(folder), **settings)
    one = load_policy(config, config.path, seed=4).eval()
    mesh = init_device_mesh(
        "cpu", (dist.get_world_size() // cut, cut),
        mesh_dim_names=("data_parallel", "tensor_parallel"),
    )  # fmt: skip
    sharding = Sharding(
        meshes(mesh, replicas=replicas), torch.device("cpu"), torch.float32, on_host=on_host
    )
    group = neighbours(dist.get_world_size())
    several = load_sharded(config, config.path, sharding, group, seed=4).eval()
    wanted, found = one.state_dict(), several.state_dict()
    assert list(wanted) == list(found)
    for name, weight in wanted.items():
        assert torch.equal(whole(found[name]), weight), name
    for name, buffer in one.named_buffers():
        assert torch.equal(several.get_buffer(name), buffer), name
    assert one.reading == several.reading
    assert [w.requires_grad for w in one.parameters()] == [
        w.requires_grad for w in several.parameters()
    ]
    scale = config.lora.scale if config.lora else None
    saved = [
        dict(PolicyWeights(p.state_dict(), "language_model.", scale, conversion=p.saved_conversion))
        for p in (one, several)
    ]
    assert list(saved[0]) == list(saved[1])
    torch.testing.assert_close(*saved, rtol=0, atol=0)
    if settings.get("dtype") == "bfloat16":
        return  # a whole policy would compute in it
    with torch.no_grad():
        values = [p(IDS, MASK, num_tokens=(5,), temperature=1.0)[0] for p in (one, several)]
    torch.testing.assert_close(*values, rtol=0, atol=1e-5)


def main(folders):
    dist.init_process_group("gloo")
    for folder, scene in zip(folders, SCENES[dist.get_world_size()], strict=True):
        compare(folder, *scene[1:])
    group = neighbours(dist.get_world_size())
    with pytest.raises(ModelError, match="no model can be loaded"):
        load_sharded(PolicyConfig("nowhere"), folders[0] + "-none", None, group)
    dist.destroy_process_group()


@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.long)])
def test_shards_are_those_of_a_whole_policy(luffy_pl, tmp_path, ranks):
    folders = [tmp_path / str(number) for number in range(len(SCENES[ranks]))]
    for folder, (family, *_) in zip(folders, SCENES[ranks], strict=True):
        tiny_model(family, vocab_size=97).save_pretrained(folder)
    done = luffy_pl(*folders, script=__file__, ranks=ranks, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("family", ["llama", "gpt2", "dbrx", "llama4_text"])
def test_layers_are_found_whatever_they_are_called(family):
    model = tiny_model(family)
    names = {type(layer).__name__ for layer in decoder_layers(model)}
    assert len(decoder_layers(model)) == model.config.num_hidden_layers
    assert len(names) == 1


def test_a_model_whose_layers_cannot_be_told_is_refused():
    with pytest.raises(ModelError, match="cannot be told from other modules, got 'XLNetLMHead"):
        decoder_layers(tiny_model("xlnet"))


@pytest.mark.parametrize("is_mapped", [True, False])
def test_what_a_class_does_not_train_is_not_trained(tmp_path, is_mapped):
    tiny_model("ernie4_5_moe").save_pretrained(tmp_path)
    policy = load_policy(PolicyConfig(str(tmp_path)), str(tmp_path), is_mapped=is_mapped)
    frozen = [name for name, weight in policy.named_parameters() if not weight.requires_grad]
    assert frozen
    assert all(name.endswith("e_score_correction_bias") for name in frozen)


def test_files_are_those_of_the_index(tmp_path):
    assert weight_files(tmp_path) == []
    assert weight_files(Path("hub/name")) == []
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "consolidated.safetensors").touch()
    assert weight_files(tmp_path) == [tmp_path / "model.safetensors"]
    names = {"a": "1.safetensors", "b": "2.safetensors", "c": "1.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert weight_files(tmp_path) == [tmp_path / names["a"], tmp_path / names["b"]]


def test_a_weight_travels_in_pieces():
    """Of rows of 4 MiB, four are 16 MiB."""
    weight = torch.empty(9, 1 << 20, device="meta")
    assert [(rows.start, rows.stop) for rows in pieces(weight)] == [(0, 4), (4, 8), (8, 9)]
    assert list(pieces(torch.empty(0, 3))) == []


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_two_ranks_hold_one_copy_together(dtype):
    script = ROOT / "experiments" / "learner" / "loading.py"
    done = subprocess.run(
        [sys.executable, script, "--dtype", dtype],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["pss_peak"] <= 1.2, found
    assert 0.9 < found["pss_after"] <= 1.2, found


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])
