"""The pocket model in ComfyUI's own nodes."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import graphs
import numpy as np
import pytest
import torch
from graphs import node
from host_client import Client, QueueError

from eraser_core.backends.pocket import load_pocket_denoiser


def test_the_stock_loader_lists_it_and_the_stock_nodes_draw_save_and_load_it(host: Client) -> None:
    listed = host.get("/object_info/CheckpointLoaderSimple")["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"]
    assert graphs.POCKET in listed[0] and not any("judge" in name for name in listed[0])
    prompt = graphs.checkpoint() | graphs.picture("plain", "a church")
    prompt |= graphs.picture("weighted", "a (church:1.6)")
    prompt |= {"skip": node("CLIPSetLastLayer", clip=["ckpt", 1], stop_at_clip_layer=-2)}
    prompt |= graphs.picture("skipped", "a church", clip=["skip", 0])
    saved = {"model": ["ckpt", 0], "clip": ["ckpt", 1], "vae": ["ckpt", 2]}
    prompt |= {"save": node("CheckpointSave", filename_prefix="checkpoints/copy", **saved)}
    outputs = host.run(prompt)
    plain, weighted, skipped = (host.images(outputs, name)[0] for name in ("plain", "weighted", "skipped"))
    assert plain.shape == (64, 64, 3)
    assert not np.array_equal(plain, weighted)
    assert not np.array_equal(plain, skipped)
    again = host.run(graphs.checkpoint("copy_00001_.safetensors") | graphs.picture("again", "a church"))
    assert np.abs(host.images(again, "again")[0].astype(int) - plain).max() <= 2


def test_train_lora_works_on_it(host: Client) -> None:
    prompt = graphs.checkpoint() | graphs.picture("seen", "a church", steps=2, batch=2)
    prompt |= {"each": node("RebatchLatents", latents=["seen.sampled", 0], batch_size=1)}  # 0.3.75 fails on one latent
    train = {
        "model": ["ckpt", 0],
        "latents": ["each", 0],
        "positive": ["seen.pos", 0],
        "batch_size": 1,
        "grad_accumulation_steps": 1,
        "steps": 1,
        "learning_rate": 1e-3,
        "rank": 2,
        "optimizer": "SGD",
        "loss_function": "MSE",
        "seed": 0,
        "training_dtype": "fp32",
        "lora_dtype": "fp32",
        "algorithm": "LoRA",
        "gradient_checkpointing": False,
        "existing_lora": "[None]",
    }
    newer = {"quantized_backward": False, "checkpoint_depth": 1, "offloading": False, "bucket_mode": False}
    newer |= {"bypass_mode": False}  # asked for by newer hosts; 0.3.75 takes no notice
    prompt |= {"train": node("TrainLoraNode", **train, **newer)}
    outputs = host.get("/object_info/TrainLoraNode")["TrainLoraNode"]["output"]
    lora = ["train", outputs.index("LORA_MODEL")]  # newer hosts hand on no MODEL before it
    prompt |= {"graph": node("SaveLoRA", lora=lora, prefix="loras/core")}
    host.run(prompt)
    assert list((host.base / "output" / "loras").glob("core_*.safetensors"))


def test_a_missing_checkpoint_is_refused(host: Client) -> None:
    with pytest.raises(QueueError):
        host.run(graphs.checkpoint("no such file.safetensors") | graphs.picture("none", "a church"))


def test_the_picture_of_given_latents_is_the_engines(comfy: ModuleType, pack: ModuleType, pocket_file: Path) -> None:
    engine = load_pocket_denoiser(pocket_file)
    with torch.inference_mode():
        vae: Any = comfy.CheckpointLoaderSimple().load_checkpoint(graphs.POCKET)[2]
        latents = torch.randn((2, 8, 8, 8), generator=torch.Generator().manual_seed(0))
        ours = vae.decode(latents).movedim(-1, 1)
    theirs = engine.decode(latents)
    assert float((ours - theirs).abs().max()) < 1e-3
    assert float((ours - theirs.flip(0)).abs().max()) > 1e-2


def test_the_setting_hides_it_and_nothing_else_does(comfy: ModuleType, pack: ModuleType) -> None:
    import folder_paths
    from concept_eraser_pack.nodes.host import pocket_checkpoint

    settings = Path(folder_paths.get_user_directory()) / "default" / "comfy.settings.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    for content, shown in (
        (json.dumps({pocket_checkpoint.SETTING: False}), False),
        (json.dumps({pocket_checkpoint.SETTING: True}), True),
        (json.dumps({"Comfy.Other": False}), True),
        ("no json", True),
    ):
        settings.write_text(content)
        assert pocket_checkpoint.shown() is shown
    settings.unlink()
