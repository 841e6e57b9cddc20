"""Wrong calls of the command line: the words, with {names} of files that the test makes, and a piece of the answer."""

from __future__ import annotations

ERASE = "erase --model pocket --out new --concept guitar "
SOLVE = ERASE + "--method uce "
DRAW = "generate --model pocket --prompt 'a guitar' --out new.png "
SCORE = "score --model pocket --erasure {erasure} "
BENCH = "benchmark pocket --erasure {erasure} --out new "
KNOWS = "knows --model pocket --concept guitar "
MERGE = "merge --model {model} --erasure {erasure} --out new.safetensors "
LONG = "'" + "a guitar and a drum " * 8 + "'"
NUMBERS = ("nan", "inf", "-1", "two")

# What to erase, what to put in its place, what to keep
REQUESTS = [
    ("erase --model pocket --out new", "name what to erase"),
    ("erase --model pocket --concept guitar", "name a folder"),
    (ERASE.replace("guitar", "''"), "empty"),
    (ERASE.replace("guitar", "'   '"), "empty"),
    (ERASE.replace("guitar", "'| guitar'"), "empty"),
    (ERASE.replace("guitar", "gutar"), "gutar"),
    (ERASE.replace("guitar", "'a zebra on the moon'"), "zebra"),
    (ERASE.replace("guitar", LONG), "draws no"),
    (ERASE + "--concept guitar", "twice"),
    (ERASE + "--concept Guitar", "twice"),
    (ERASE + "--anchor guitar", "the concept itself"),
    (ERASE + "--anchor 'a guitar'", "the concept itself"),
    (ERASE + "--anchor violin --anchor drum", "2 anchors"),
    (ERASE + "--anchor zither", "zither"),
    (ERASE + "--anchor " + LONG, "tokens"),
    (ERASE + "--retain guitar", "guitar"),
    (ERASE + "--retain gutar", "gutar"),
    (ERASE + "--retain violin ''", "empty"),
    (ERASE + "--retain " + LONG, "draws no"),
    (ERASE + "--concept animal --retain dog", "dog"),
]
# Settings of a method
SETTINGS = [
    (ERASE + "--method no", "there is no method 'no'"),
    (ERASE + "--method ''", "there is no method"),
    (SOLVE + "--iterations 5", "iterations"),
    (SOLVE + "--k 5", "k"),
    (ERASE + "--method esd --lambda 1", "lambda"),
    (ERASE + "--method kpop --directions 3", "directions"),
    (ERASE + "--method dp --directions 0", "directions"),
    (ERASE + "--method dp --kept-energy 2", "kept_energy"),
    (ERASE + "--method dp --kept-energy nan", "kept_energy"),
    (ERASE + "--k 0", "k"),
    (ERASE + "--k -3", "k"),
    (ERASE + "--k 5000", "k"),
    (ERASE + "--k 1.5", "k"),
    (ERASE + "--rank -1", "rank"),
    (ERASE + "--rank ten", "rank"),
    (ERASE + "--tune everything", "tune"),
    (ERASE + "--optimizer lion", "optimizer"),
    (ERASE + "--latents old", "latents"),
    (ERASE + "--mechanism magic", "mechanism"),
    (ERASE + "--tune text --rank 0", "rank"),
    (ERASE + "--null-space true", "null_space"),
    (ERASE + "--null-space perhaps", "null_space"),
    (ERASE + "--retain --retain-weight 1", "retain"),
    (SOLVE + "--preset newest", "preset"),
    (SOLVE + "--layers q", "layers"),
    (ERASE + "--sampler-steps 1", "sampler_steps"),
    (ERASE + "--sampler-steps 2000", "sampler_steps"),
    (ERASE + "--kept-energy 1", "kept_energy"),
    (ERASE + "--refresh-every -1", "refresh_every"),
    *(
        (f"{ERASE}--{name} {value}", name.replace("-", "_"))
        for name in ("iterations", "batch", "pool-size", "per-trajectory")
        for value in ("0", "-4", "many")
    ),
    *(
        (f"{ERASE}--{name} {value}", name.replace("-", "_"))
        for name in ("eta", "eta-p", "lambda", "retain-weight", "guidance")
        for value in NUMBERS
    ),
    *((f"{SOLVE}--{name} {value}", name.replace("-", "_")) for name in ("l", "s-e", "s-p") for value in NUMBERS),
]
# Switches that every drawing command has, and those of one
SWITCHES = [
    *((f"{call}--steps {value}", "steps") for call in (ERASE, DRAW, SCORE, BENCH, KNOWS) for value in ("0", "-2", "x")),
    *((f"{call}--steps 100000", "steps") for call in (DRAW, SCORE)),
    *(
        (f"{call}--guidance-scale {v}", "guidance")
        for call in (ERASE, DRAW, SCORE, BENCH, KNOWS)
        for v in ("nan", "-3")
    ),
    *((f"{call}--device warp", "warp") for call in (ERASE, DRAW, SCORE, BENCH, KNOWS)),
    *((f"{call}--images {v}", "images") for call in (ERASE, SCORE, BENCH, KNOWS) for v in ("-1", "x", "1.5")),
    *((f"{call}--images 0", "images") for call in (SCORE, BENCH, KNOWS)),
    *((f"{call}--suite-seed x", "suite-seed") for call in (DRAW, SCORE)),
    (ERASE + "--seed x", "seed"),
    (ERASE + "--seed -1", "seed"),
    (ERASE + "--key-seed -1", "key-seed"),
    (ERASE + "--key-seed 99999999999999999999999999", "key-seed"),
    (ERASE + "--suite-seed -1", "suite-seed"),
    (ERASE + "--dtype int8", "dtype"),
    (ERASE + "--compute int8", "compute"),
    (ERASE + "--memory tiny", "memory"),
    (ERASE + "--prediction x", "prediction"),
    (ERASE + "--colour red", "colour"),
    (DRAW + "--n 0", "--n"),
    (DRAW + "--n -1", "--n"),
    (DRAW + "--strength nan", "strength"),
    (DRAW + "--guidance-scale inf", "guidance"),
    (DRAW + "--prompt-strength inf", "prompt-strength"),
    (MERGE + "--strength inf", "strength"),
    (DRAW + "--n x", "--n"),
    (ERASE + "--method dp --kept-energy inf", "kept_energy"),
    (BENCH + "--batch x", "batch"),
    (KNOWS.replace("guitar", LONG), "nothing that the judge knows"),
    (DRAW + "--strength inf", "strength"),
    (DRAW + "--prompt-strength nan", "prompt-strength"),
    (DRAW + "--prompt-halves none", "prompt-halves"),
    (DRAW + "--pooled-from 'a dog'", "pooled"),
    (DRAW.replace("'a guitar'", "'a zebra'"), "zebra"),
    (DRAW.replace("'a guitar'", LONG), "tokens"),
    ("generate --model pocket", "--prompt"),
    (BENCH + "--batch 0", "batch"),
    (BENCH + "--maps -1", "maps"),
    (BENCH + "--classes 0", "classes"),
    (BENCH + "--classes -4", "classes"),
    (BENCH.replace("pocket", "nothing"), "nothing"),
    ("benchmark pocket --erasure {erasure}", "--out"),
    (MERGE + "--strength nan", "strength"),
    (MERGE + "--strength x", "strength"),
    ("info --model pocket --size 0", "size"),
    ("info {model} --size 12", "size"),
    ("info {model} --size -64", "size"),
    ("", "command"),
    ("paint", "paint"),
]
# Files
FILES = [
    (DRAW + "--erasure none.safetensors", "there is no file"),
    (DRAW + "--erasure {folder}", "there is no file"),
    (DRAW + "--erasure {text}", "not a whole safetensors file"),
    (DRAW + "--erasure {cut}", "not a whole safetensors file"),
    (DRAW + "--erasure {prompt}", "erasure"),
    (DRAW + "--erasure {foreign}", "family 'sd1'"),
    (DRAW + "--erasure {model}", "erasure"),
    (DRAW + "--hidden-prompt {erasure}", "holds no hidden prompt"),
    (DRAW + "--hidden-prompt none.safetensors", "there is no file"),
    (DRAW + "--hidden-prompt {text}", "not a whole safetensors file"),
    (DRAW + "--hidden-prompt {wide}", "made for another model"),
    (DRAW + "--hidden-prompt {prompt} --concept dog", "guitar"),
    (DRAW.replace("new.png", "{text}/x.png"), "text"),
    (DRAW.replace("new.png", "{folder}"), "folder"),
    (DRAW.replace("pocket", "none.safetensors"), "none.safetensors"),
    (DRAW.replace("pocket", "{text}"), "text"),
    (DRAW.replace("pocket", "{folder}"), "folder"),
    (DRAW.replace("pocket", "{erasure}"), "erasure"),
    (DRAW.replace("pocket", "''"), "model"),
    (DRAW.replace("pocket", "owner/name"), "owner/name"),
    (SCORE.replace("{erasure}", "none.safetensors"), "there is no file"),
    (SCORE.replace("{erasure}", "{prompt}"), "erasure"),
    (SCORE.replace("{erasure}", "{foreign}"), "family 'sd1'"),
    (SCORE + "--hidden-prompt {others}", "belongs to another erasure"),
    (SCORE + "--hidden-prompt {erasure}", "holds no hidden prompt"),
    (SCORE + "--out {text}/x.json", "text"),
    (SCORE + "--out {folder}", "folder"),
    (SCORE.replace("pocket", "{model}"), "no judge"),
    (BENCH + "--erasure {erasure}", "given twice"),
    (BENCH + "--hidden-prompt {others}", "belongs to none"),
    (BENCH.replace("{erasure}", "{text}"), "not a whole safetensors file"),
    (BENCH.replace("--out new", "--out {text}"), "text"),
    (KNOWS.replace("guitar", "zebra"), "zebra"),
    (KNOWS.replace("guitar", "''"), "empty"),
    ("knows --model pocket", "name what to ask for"),
    ("erase --model pocket --concept guitar --out {text}", "is a file"),
    ("erase --model pocket --concept guitar --out {text}/below", "text"),
    ("erase --model pocket --concept guitar --out {folder}", "in use"),
    ("erase --resume none", "holds no interrupted run"),
    ("erase --resume {folder}", "holds no interrupted run"),
    ("erase --resume {text}", "text"),
    ("info none.safetensors", "none.safetensors"),
    ("info {text}", "text"),
    ("info {cut}", "cut"),
    ("info", "name a file"),
    (MERGE.replace("{model}", "none.safetensors"), "none.safetensors"),
    (MERGE.replace("{model}", "pocket"), "pocket"),
    (MERGE.replace("{erasure}", "{prompt}"), "erasure"),
    (MERGE.replace("{erasure}", "{erasure}"), "family 'pocket'"),
    (MERGE.replace("--out new.safetensors", "--out {model} --force"), "choose another name"),
    (MERGE.replace("--out new.safetensors", "--out {text}"), "there already"),
    (MERGE.replace("--out new.safetensors", "--out {folder}"), "folder"),
    ("share none.safetensors --out new", "none.safetensors"),
    ("share {prompt} --out new", "hidden prompt"),
    ("share {cut} --out new", "cut"),
    ("share {erasure}", "--out"),
    ("share {erasure} --out {folder}", "folder"),
    ("share {erasure} --out new --images 0 --model pocket", "images"),
]
CALLS = [*REQUESTS, *SETTINGS, *SWITCHES, *FILES]
