"""Wrong calls of the nodes, as a table: (node, what is wrong with its inputs, a piece of what the user must read)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

NAN, INFINITE = math.nan, math.inf
LONG = "a church " * 40


@dataclass(frozen=True)
class Given:
    """What a wire carries: the test has an object of this name. Its socket's kind is `kind`."""

    name: str
    kind: str


@dataclass(frozen=True)
class Left:
    """An input that is left out: nothing is connected, or an old workflow lacks it."""


@dataclass(frozen=True)
class Bad:
    """One wrong call: the good inputs of `node` with `changed`, and a piece of the message."""

    node: str
    changed: dict[str, Any]
    said: str
    label: str = field(default="")

    def __str__(self) -> str:
        return f"{self.node} {self.label or self.changed}"


def model(name: str = "model") -> Given:
    return Given(name, "MODEL")


def clip(name: str = "clip") -> Given:
    return Given(name, "CLIP")


def vae(name: str = "vae") -> Given:
    return Given(name, "VAE")


def text(name: str) -> Given:
    return Given(name, "CONDITIONING")


def image(name: str) -> Given:
    return Given(name, "IMAGE")


def nothing(kind: str) -> Given:
    """A wire that carries None, as from a loader that found no such part."""
    return Given("nothing", kind)


def settings(name: str) -> Given:
    return Given(name, "CONCEPT_ERASER_METHOD")


ERASURE, PROMPT = Given("erasure", "CONCEPT_ERASURE"), Given("hidden prompt", "HIDDEN_PROMPT")
LEFT = Left()
SOLVED = {"concepts": "church", "anchor": "castle", "retain": "", "precision": "fp16", "filename_prefix": "loras/bad"}
GOOD: dict[str, dict[str, Any]] = {
    "TrainConceptEraser": {
        "model": model(),
        "clip": clip(),
        "method": settings("one quick step"),
        **SOLVED,
        "steps": 1,
        "tune": "xattn-kv",
        "rank": 4,
        "seed": 0,
        "key_seed": 7,
        "width": 0,
        "height": 0,
        "batch": 1,
        "compute": "auto",
        "memory": "normal",
    },
    "EraseClosedForm": {"model": model(), "clip": clip(), "method": "UCE", **SOLVED},
    "CombineErasures": {
        "model": model(),
        "clip": clip(),
        "erasure_names": "example_guitar.safetensors",
        "kept": 3.0,
        "precision": "fp16",
        "filename_prefix": "loras/bad",
        "erasure_1": ERASURE,
    },
    "KPOPSettings": {
        "mechanism": "concatenative",
        "lambda_": -1.0,
        "k": 2,
        "eta": 0.01,
        "eta_p": -1.0,
        "guidance": 1.0,
        "retain_weight": 0.0,
        "recovery_target": "erased",
        "latents": "fresh",
        "latents_from": "frozen",
        "optimizer": "adam",
        "null_space": False,
    },
    "ESDSettings": {
        "eta": 0.01,
        "negative_guidance": -1.0,
        "guidance": 1.0,
        "retain_weight": 0.0,
        "latents": "fresh",
    },
    "CASettings": {"eta": 0.01, "anchor_images": 1, "anchor_guidance": 1.0, "retain_weight": 0.0},
    "RobustSettings": {
        "tune": "xattn-kv",
        "eta": 0.01,
        "resist_weight": 1.0,
        "margin": 1.0,
        "retain_weight": 1.0,
        "contexts": 2,
        "context_steps": 1,
        "pictures": 1,
        "latents": "fresh",
    },
    "LockedSettings": {
        "tune": "xattn-kv",
        "eta": 0.01,
        "lambda_": 1.0,
        "opens": 1.0,
        "close": 1.0,
        "key_norm": 2.0,
        "resist_weight": 1.0,
        "margin": 1.0,
        "retain_weight": 1.0,
        "contexts": 2,
        "context_steps": 1,
        "pictures": 1,
        "latents": "fresh",
    },
    "UCESettings": {"preset": "current", "layers": "kv", "l": -1.0, "s_e": -1.0, "s_p": -1.0},
    "TIMESettings": {"layers": "v", "lambda_": -1.0},
    "DoubleProjectionsSettings": {"layers": "kv", "directions": 1, "kept_energy": -1.0},
    "ApplySanitizedUNet": {"model": model(), "erasure_name": "erasure.safetensors", "strength": 1.0},
    "LoadErasure": {"erasure_name": "erasure.safetensors"},
    "ErasureInfo": {"erasure": ERASURE, "model": model()},
    "HiddenPromptInject": {
        "positive": text("text"),
        "negative": text("text"),
        "prompt_name": "prompt.safetensors",
        "concept": "",
        "strength": 1.0,
        "halves": "positive",
    },
    "LoadHiddenPrompt": {"prompt_name": "prompt.safetensors"},
    "SaveHiddenPrompt": {"hidden_prompt": PROMPT, "filename_prefix": "keys/bad"},
    "Compare": {"before": image("pictures"), "after": image("pictures"), "labels": "before | after"},
    "NudeNetScore": {
        "images": image("pictures"),
        "classes": "any exposed body parts",
        "own_classes": "BUTTOCKS_EXPOSED",
        "threshold": 0.5,
        "censor": "blur",
    },
    "AttributionMap": {
        "model": model(),
        "clip": clip(),
        "vae": vae(),
        "prompt": "a church",
        "words": "church",
        "seed": 0,
        "steps": 1,
        "cfg": 1.0,
        "width": 0,
        "height": 0,
        "batch": 1,
    },
    "Evaluation": {"erasure_name": "erasure.safetensors", "suite": ""},
    "AuditErasure": {
        "model": model(),
        "clip": clip(),
        "vae": vae(),
        "erasure_name": "erasure.safetensors",
        "attacks": "chosen",
        "chosen": "algebra",
        "concept": "",
        "images": 2,
        "seed": 0,
        "anchor": "",
        "steps": 4,
        "folder_prefix": "audits/bad",
        "second_lora": "(none)",
    },
    "ShareErasure": {
        "erasure_name": "erasure.safetensors",
        "licence": "openrail",
        "base": "somebody/pocket",
        "author": "somebody",
        "folder_prefix": "shared/bad",
        "picture": image("pictures"),
    },
}
# Nodes whose values are judged where they are used: by the node that trains or solves with them.
USED_BY = {
    "KPOPSettings": ("TrainConceptEraser", "method"),
    "ESDSettings": ("TrainConceptEraser", "method"),
    "CASettings": ("TrainConceptEraser", "method"),
    "RobustSettings": ("TrainConceptEraser", "method"),
    "LockedSettings": ("TrainConceptEraser", "method"),
    "UCESettings": ("EraseClosedForm", "settings"),
    "TIMESettings": ("EraseClosedForm", "settings"),
    "DoubleProjectionsSettings": ("EraseClosedForm", "settings"),
}


def rows(node: str, *cases: tuple[dict[str, Any], str]) -> list[Bad]:
    return [Bad(node, changed, said) for changed, said in cases]


def words(node: str) -> list[Bad]:
    """What can be wrong in the boxes that both erasing nodes have."""
    return rows(
        node,
        ({"concepts": ""}, "the box 'concepts' is empty"),
        ({"concepts": " \n\t\n"}, "the box 'concepts' is empty"),
        ({"concepts": " | "}, "the box 'concepts' is empty"),
        ({"concepts": "church\nChurch"}, "'church' twice"),
        ({"concepts": "church | Church"}, "'church' twice"),
        ({"concepts": "church\nguitar | church", "anchor": ""}, "'church' twice"),
        ({"concepts": "zeppelin"}, "draws no 'zeppelin'"),
        ({"concepts": "church | zeppelin"}, "the box 'concepts': the pocket model does not know the word 'zeppelin'"),
        ({"concepts": "gutar"}, "did you mean 'guitar'"),
        ({"concepts": "Chruch"}, "did you mean 'church'?"),
        ({"concepts": "church | chapell"}, "did you mean 'chapel'?"),
        ({"concepts": "../church"}, "draws no '../church'"),
        ({"concepts": LONG}, "the box 'concepts': the pocket model draws no"),
        ({"concepts": LEFT}, "concepts"),
        ({"anchor": "church"}, "is the concept itself"),
        ({"anchor": "ink"}, "its anchor 'ink'"),
        ({"anchor": "zeppelin"}, "the box 'anchor': the pocket model does not know the word 'zeppelin'"),
        ({"anchor": "a casttle"}, "did you mean 'castle'"),
        ({"retain": "vioIin"}, "did you mean 'violin'?"),
        ({"anchor": "castle\nviolin"}, "2 lines for 1 concept"),
        ({"anchor": LONG}, "the box 'anchor': the prompt"),
        ({"retain": LONG}, "the box 'retain': the pocket model draws no"),
        ({"retain": "church"}, "to erase"),
        ({"retain": "zeppelin"}, "draws no 'zeppelin'"),
        ({"retain": "-\ndog"}, "beside words to keep"),
        ({"retain": "ink"}, "'ink' to retain is of the kind style"),
        ({"filename_prefix": ""}, "ends without a name"),
        ({"filename_prefix": "  "}, "ends without a name"),
        ({"filename_prefix": "loras/"}, "ends without a name"),
        ({"filename_prefix": "loras/.."}, "ends without a name"),
        ({"filename_prefix": "../bad"}, "leads out of"),
        ({"filename_prefix": "loras/../../bad"}, "leads out of"),
        ({"filename_prefix": "/bad"}, "leads out of"),
        ({"filename_prefix": "loras/" + 300 * "x"}, "too long"),
        ({"filename_prefix": "loras/a\0b"}, "holds a letter that no name may have"),
        ({"filename_prefix": "loras/text.safetensors/x"}, "text.safetensors is a file"),
        ({"filename_prefix": "brand/new/x", "concepts": "zeppelin"}, "draws no 'zeppelin'"),  # and makes no folder
        ({"precision": "fp8"}, "precision"),
        ({"model": LEFT}, "model"),
        ({"model": nothing("MODEL")}, "the MODEL is empty"),
        ({"model": clip()}, "model"),
        ({"model": model("sd1")}, "this CLIP gives 192 numbers a token, the MODEL reads 96"),
        ({"clip": LEFT}, "clip"),
        ({"clip": nothing("CLIP")}, "the CLIP is empty"),
    )


def seldom(node: str, name: str) -> list[Bad]:
    """Numbers that no weight or rate may be."""
    return rows(node, ({name: NAN}, name.rstrip("_")), ({name: INFINITE}, name), ({name: -0.5}, name.rstrip("_")))


AUDIT: list[Bad] = rows(
    "AuditErasure",
    ({"erasure_name": ""}, "choose an erasure file"),
    ({"erasure_name": "(from the socket)"}, "choose an erasure file"),
    ({"erasure_name": "gone.safetensors"}, "there is no file 'gone.safetensors'"),
    ({"erasure_name": "text.safetensors"}, "not a whole safetensors file"),
    ({"erasure_name": "cut.safetensors"}, "not a whole safetensors file"),
    ({"erasure_name": "damaged.safetensors"}, "damaged"),
    ({"erasure_name": "key.safetensors"}, "is no erasure"),
    ({"erasure_name": "sd1.safetensors"}, "family 'sd1'"),
    ({"erasure_name": "lora.safetensors"}, "lora.safetensors is a plain LoRA, which does not say what it erases"),
    ({"erasure_name": "lora.safetensors", "concept": "church"}, "was made for another kind of model"),
    ({"erasure_name": "foreign.safetensors", "concept": "church"}, "was made for another kind of model"),
    ({"erasure_name": "own_lora.safetensors"}, "type that into the box 'concept'"),
    ({"erasure_name": "own_lora.safetensors", "concept": "gutar"}, "draws no 'gutar'; did you mean 'guitar'"),
    ({"erasure_name": "own_lora.safetensors", "concept": "church", "anchor": "zeppelin"}, "the word 'zeppelin'"),
    ({"erasure_name": "own_lora.safetensors", "concept": "church", "anchor": "church"}, "is the concept itself"),
    ({"erasure": Given("erasure of sd1", "CONCEPT_ERASURE")}, "family 'sd1'"),
    ({"erasure": Given("erasure of another base", "CONCEPT_ERASURE")}, "another model of this family"),
    ({"erasure": Given("erasure that says nothing", "CONCEPT_ERASURE")}, "type that into the box 'concept'"),
    ({"erasure": PROMPT}, "erasure"),
    ({"concept": "dog"}, "does not erase 'dog': it erases a church"),
    ({"anchor": "mosque"}, "says itself what is drawn"),
    ({"attacks": "some"}, "attacks"),
    ({"second_lora": "gone.safetensors"}, "there is no file 'gone.safetensors'"),
    ({"second_lora": "cut.safetensors"}, "not a whole safetensors file"),
    ({"second_lora": "foreign.safetensors"}, "was made for another kind of model"),
    ({"second_lora": "sd1.safetensors"}, "family 'sd1'"),
    ({"chosen": ""}, "the box 'chosen' is empty"),
    ({"chosen": " , "}, "the box 'chosen' is empty"),
    ({"chosen": "algebra\nmagic"}, "the box 'chosen': there is no attack 'magic'"),
    ({"images": 0}, "images"),
    ({"images": 10_000}, "images"),
    ({"seed": -1}, "seed"),
    ({"steps": -1}, "steps"),
    ({"steps": 1001}, "steps"),
    ({"hidden_prompt": Given("prompt of another erasure", "HIDDEN_PROMPT")}, "belongs to another erasure"),
    ({"hidden_prompt": ERASURE}, "hidden_prompt"),
    ({"model": nothing("MODEL")}, "the MODEL is empty"),
    ({"model": LEFT}, "model"),
    ({"model": model("sd1")}, "this VAE reads latents"),
    ({"model": model("erased model")}, "this MODEL carries an erasure already"),
    ({"clip": nothing("CLIP")}, "the CLIP is empty"),
    ({"vae": nothing("VAE")}, "the VAE is empty"),
    ({"vae": vae("empty vae")}, "the VAE is empty"),
    ({"vae": vae("vae of four channels")}, "this VAE reads latents of 4 channels"),
    ({"folder_prefix": "audits/"}, "ends without a name"),
    ({"folder_prefix": "../bad"}, "leads out of"),
    ({"folder_prefix": "audits/" + 300 * "x"}, "too long"),
)
ROWS: list[Bad] = [
    *AUDIT,
    *words("TrainConceptEraser"),
    *words("EraseClosedForm"),
    *rows(
        "TrainConceptEraser",
        ({"model": model("sd1 with the pocket's texts"), "concepts": LONG, "anchor": "cat"}, "more words than fit"),
        ({"model": model("lcm")}, "sampled as"),
        ({"model": model("inpainting")}, "cannot be erased"),
        ({"vae": vae("vae of four channels")}, "this VAE reads latents of 4 channels"),
        ({"vae": vae("empty vae")}, "the VAE is empty"),
        ({"method": settings("no tokens")}, "k: input should be"),
        ({"method": settings("null space without texts")}, "null_space needs"),
        ({"method": PROMPT}, "method"),
        ({"steps": -1}, "steps"),
        ({"steps": 100_001}, "steps"),
        ({"steps": "many"}, "steps"),
        ({"steps": NAN}, "steps"),
        ({"tune": "everything"}, "tune"),
        ({"tune": "text", "rank": 0}, "give it a rank"),
        ({"rank": -2}, "rank"),
        ({"rank": 257}, "rank"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"key_seed": -2}, "key_seed"),
        ({"width": 8}, "width is 8"),
        ({"width": 100}, "divide by 8"),
        ({"width": -8}, "width"),
        ({"height": 4104}, "height"),
        ({"height": 68}, "height is 68"),
        ({"batch": -1}, "batch"),
        ({"batch": 65}, "batch"),
        ({"compute": "int8"}, "compute"),
        ({"memory": "huge"}, "memory"),
    ),
    *rows(
        "EraseClosedForm",
        ({"method": "ESD"}, "method"),
        ({"settings": settings("one quick step")}, "KPOP has no closed form"),
        ({"settings": ERASURE}, "settings"),
    ),
    *seldom("KPOPSettings", "lambda_"),
    *seldom("KPOPSettings", "eta"),
    *seldom("KPOPSettings", "eta_p"),
    *seldom("KPOPSettings", "guidance"),
    *seldom("KPOPSettings", "retain_weight"),
    *seldom("KPOPSettings", "opens"),
    *rows(
        "KPOPSettings",
        ({"k": 0}, "k: input should be"),
        ({"k": 201}, "k"),
        ({"eta": 0.0}, "eta"),
        ({"mechanism": "multiplicative"}, "mechanism"),
        ({"recovery_target": "both"}, "recovery_target"),
        ({"optimizer": "lion"}, "optimizer"),
        ({"null_space": True}, "null_space needs"),
        ({"retain_weight": 1e6}, "retain_weight"),
    ),
    *seldom("ESDSettings", "eta"),
    *seldom("ESDSettings", "negative_guidance"),
    *rows("ESDSettings", ({"guidance": 0.0}, "guidance"), ({"latents": "old"}, "latents")),
    *seldom("CASettings", "eta"),
    *seldom("CASettings", "anchor_guidance"),
    *rows("CASettings", ({"anchor_images": 0}, "anchor_images"), ({"anchor_images": 10**9}, "anchor_images")),
    *seldom("RobustSettings", "eta"),
    *seldom("RobustSettings", "resist_weight"),
    *seldom("RobustSettings", "margin"),
    *rows(
        "RobustSettings",
        ({"tune": "text"}, "tune"),
        ({"contexts": 0}, "contexts"),
        ({"context_steps": 0}, "context_steps"),
        ({"pictures": 0}, "pictures"),
    ),
    *seldom("LockedSettings", "eta"),
    *seldom("LockedSettings", "lambda_"),
    *seldom("LockedSettings", "opens"),
    *seldom("LockedSettings", "close"),
    *seldom("LockedSettings", "margin"),
    *rows("LockedSettings", ({"tune": "text"}, "tune"), ({"key_norm": 0.0}, "key_norm"), ({"pictures": 0}, "pictures")),
    *seldom("UCESettings", "l"),
    *seldom("UCESettings", "s_e"),
    *rows("UCESettings", ({"l": 0.0}, "l: input"), ({"layers": "q"}, "layers"), ({"preset": "old"}, "preset")),
    *seldom("TIMESettings", "lambda_"),
    *rows("TIMESettings", ({"lambda_": 0.0}, "lambda"), ({"layers": ""}, "layers")),
    *seldom("DoubleProjectionsSettings", "kept_energy"),
    *rows(
        "DoubleProjectionsSettings",
        ({"directions": 0}, "directions"),
        ({"directions": -2}, "directions"),
        ({"kept_energy": 2.0}, "kept_energy"),
    ),
    *rows(
        "ApplySanitizedUNet",
        ({"erasure_name": ""}, "choose an erasure file"),
        ({"erasure_name": "(from the socket)"}, "choose an erasure file"),
        ({"erasure_name": "gone.safetensors"}, "there is no file 'gone.safetensors'"),
        ({"erasure_name": "erasures.safetensors"}, "did you mean 'erasure.safetensors'"),
        ({"erasure_name": "../hidden_prompts/prompt.safetensors"}, "there is no file"),
        ({"erasure_name": "text.safetensors"}, "not a whole safetensors file"),
        ({"erasure_name": "empty.safetensors"}, "not a whole safetensors file"),
        ({"erasure_name": "cut.safetensors"}, "not a whole safetensors file"),
        ({"erasure_name": "lora.safetensors"}, "a plain LoRA goes into a LoRA loader"),
        ({"erasure_name": "key.safetensors"}, "is no erasure"),
        ({"erasure_name": "sd1.safetensors"}, "family 'sd1'"),
        ({"erasure": Given("erasure of sd1", "CONCEPT_ERASURE")}, "family 'sd1'"),
        ({"erasure": PROMPT}, "erasure"),
        ({"model": model("sd1")}, "family"),
        ({"model": nothing("MODEL")}, "the MODEL is empty"),
        ({"model": LEFT}, "model"),
        ({"strength": NAN}, "strength"),
        ({"strength": INFINITE}, "strength"),
        ({"strength": -11.0}, "strength"),
        ({"strength": "strong"}, "strength"),
    ),
    *rows(
        "LoadErasure",
        ({"erasure_name": LEFT}, "erasure_name"),
        ({"erasure_name": ""}, "no file is chosen"),
        ({"erasure_name": "gone.safetensors"}, "there is no file"),
        ({"erasure_name": "../../etc/passwd"}, "there is no file"),
        ({"erasure_name": "damaged.safetensors"}, "damaged"),
        ({"erasure_name": "key.safetensors"}, "is no erasure"),
        ({"erasure_name": "lora.safetensors"}, "a plain LoRA"),
    ),
    *rows(
        "ErasureInfo",
        ({"erasure": LEFT, "model": LEFT}, "connect an erasure"),
        ({"erasure": nothing("CONCEPT_ERASURE"), "model": nothing("MODEL")}, "connect an erasure"),
        ({"erasure": model()}, "erasure"),
    ),
    *rows(
        "HiddenPromptInject",
        ({"positive": LEFT}, "positive"),
        ({"positive": nothing("CONDITIONING")}, "positive is empty"),
        ({"positive": text("no text")}, "positive is empty"),
        ({"negative": nothing("CONDITIONING"), "halves": "both"}, "negative is empty"),
        ({"positive": text("wide text")}, "it was made for another model"),
        ({"positive": text("short text")}, "it was made for another model"),
        ({"negative": text("wide text"), "halves": "both"}, "it was made for another model"),
        (
            {"positive": text("longer text"), "hidden_prompt": Given("additive prompt", "HIDDEN_PROMPT")},
            "inject it only once",
        ),
        ({"prompt_name": ""}, "choose a hidden prompt file"),
        ({"prompt_name": "gone.safetensors"}, "there is no file 'gone.safetensors'"),
        ({"prompt_name": "../loras/lora.safetensors"}, "there is no file"),
        ({"prompt_name": "erasure.safetensors"}, "holds no hidden prompt"),
        ({"prompt_name": "text.safetensors"}, "not a whole safetensors file"),
        ({"prompt_name": "two.safetensors"}, "several concepts"),
        ({"prompt_name": "two.safetensors", "concept": "dog"}, "no hidden prompt for 'dog'"),
        ({"prompt_name": "two.safetensors", "concept": "gutar"}, "did you mean 'guitar'"),
        ({"concept": "zeppelin"}, "no hidden prompt for 'zeppelin'"),
        ({"hidden_prompt": Given("no prompts", "HIDDEN_PROMPT")}, "has no hidden prompt"),
        ({"strength": NAN}, "strength"),
        ({"strength": -0.1}, "strength"),
        ({"strength": INFINITE}, "strength"),
        ({"halves": "none"}, "halves"),
    ),
    *rows(
        "LoadHiddenPrompt",
        ({"prompt_name": LEFT}, "prompt_name"),
        ({"prompt_name": ""}, "no file is chosen"),
        ({"prompt_name": "gone.safetensors"}, "there is no file"),
        ({"prompt_name": "erasure.safetensors"}, "holds no hidden prompt"),
        ({"prompt_name": "text.safetensors"}, "not a whole safetensors file"),
    ),
    *rows(
        "SaveHiddenPrompt",
        ({"hidden_prompt": LEFT}, "hidden_prompt"),
        ({"hidden_prompt": nothing("HIDDEN_PROMPT")}, "hidden_prompt is empty"),
        ({"hidden_prompt": Given("no prompts", "HIDDEN_PROMPT")}, "no hidden prompt to save"),
        ({"hidden_prompt": ERASURE}, "hidden_prompt"),
        ({"filename_prefix": ""}, "ends without a name"),
        ({"filename_prefix": "../key"}, "leads out of"),
        ({"filename_prefix": "keys/"}, "ends without a name"),
        ({"filename_prefix": "brand/new/x", "hidden_prompt": Given("no prompts", "HIDDEN_PROMPT")}, "no hidden prompt"),
        ({"filename_prefix": "keys/" + 300 * "x"}, "too long"),
    ),
    *rows(
        "Compare",
        ({"before": LEFT}, "before"),
        ({"before": nothing("IMAGE")}, "before is empty"),
        ({"after": LEFT}, "after"),
        ({"after": image("no pictures")}, "after holds no picture"),
        ({"before": image("no pictures")}, "before holds no picture"),
        ({"before": image("one picture without a batch")}, "before"),
        ({"third": image("a film")}, "third"),
        ({"fourth": image("two channels")}, "fourth"),
        ({"after": image("no height")}, "after holds no picture"),
        ({"after": image("not numbers")}, "after"),
        ({"before": model()}, "before"),
    ),
    *rows(
        "NudeNetScore",
        ({"images": LEFT}, "images"),
        ({"images": nothing("IMAGE")}, "images is empty"),
        ({"images": image("no pictures")}, "images holds no picture"),
        ({"images": image("one picture without a batch")}, "images"),
        ({"images": image("two channels")}, "images"),
        ({"images": image("not numbers")}, "images"),
        ({"classes": "hands"}, "classes"),
        ({"classes": "own list", "own_classes": ""}, "names none"),
        ({"classes": "own list", "own_classes": "HAND"}, "names HAND"),
        ({"threshold": NAN}, "threshold"),
        ({"threshold": 1.5}, "threshold"),
        ({"threshold": -0.1}, "threshold"),
        ({"censor": "paint"}, "censor"),
    ),
    *rows(
        "AttributionMap",
        ({"model": nothing("MODEL")}, "the MODEL is empty"),
        ({"model": model("sd1"), "vae": vae("vae of four channels")}, "this CLIP gives 192 numbers a token"),
        ({"clip": nothing("CLIP")}, "the CLIP is empty"),
        ({"vae": nothing("VAE")}, "the VAE is empty"),
        ({"vae": vae("vae of four channels")}, "this VAE reads latents of 4 channels"),
        ({"words": ""}, "the box 'words' is empty"),
        ({"words": " \n "}, "the box 'words' is empty"),
        ({"words": "guitar"}, "guitar"),
        ({"words": "zeppelin"}, "zeppelin"),
        ({"words": "chuch"}, "did you mean 'church'?"),
        ({"prompt": ""}, "the box 'prompt' is empty"),
        ({"prompt": "a (church:1.2)"}, "weights or brackets"),
        ({"prompt": "a zeppelin", "words": "a"}, "does not know the word 'zeppelin'"),
        ({"prompt": LONG}, "more words than fit"),
        ({"positive": text("two texts")}, "more than one plain text"),
        ({"positive": text("no text")}, "more than one plain text"),
        ({"negative": text("a region")}, "more than one plain text"),
        ({"positive": text("wide text")}, "this CLIP gives 768 numbers a token"),
        (
            {"model": model("sdxl with the pocket's texts"), "vae": vae("vae of four channels")}
            | {"positive": text("text without a pooled output")},
            "lacks the pooled text",
        ),
        ({"batch": 0}, "batch"),
        ({"batch": 65}, "batch"),
        ({"steps": -1}, "steps"),
        ({"steps": 1001}, "steps"),
        ({"cfg": NAN}, "cfg"),
        ({"cfg": INFINITE}, "cfg"),
        ({"cfg": -1.0}, "cfg"),
        ({"width": 12}, "width is 12"),
        ({"height": -64}, "height"),
        ({"seed": 2**63}, "seed"),
    ),
    *rows(
        "Evaluation",
        ({"erasure_name": ""}, "no file is chosen"),
        ({"erasure_name": "gone.safetensors"}, "there is no file"),
        ({"erasure_name": "lora.safetensors"}, "a plain LoRA"),
        ({"erasure_name": "unmeasured.safetensors"}, "there are no figures of this erasure"),
        ({"erasure_name": "broken_json.safetensors"}, "broken_json.evaluation.json"),
        ({"erasure_name": "another.safetensors"}, "the figures of another erasure"),
        ({"erasure_name": "no_suites.safetensors"}, "holds no suite"),
        ({"erasure_name": "half_a_table.safetensors"}, "half_a_table.evaluation.json"),
        ({"erasure_name": "newer.safetensors"}, "update the pack"),
        ({"erasure_name": "outside.safetensors"}, "only the name of a PNG"),
        ({"suite": "imagenette"}, "there is no suite 'imagenette'"),
        ({"suite": "Poket"}, "did you mean 'pocket'?"),
    ),
    *rows(
        "CombineErasures",
        ({"erasure_names": ""}, "two erasures at least"),
        ({"erasure_names": "erasure.safetensors"}, "both erase"),
        ({"erasure_names": "gone.safetensors"}, "there is no file"),
        ({"erasure_names": "text.safetensors"}, "not a whole safetensors file"),
        ({"erasure_names": "key.safetensors"}, "is no erasure"),
        ({"erasure_names": "sd1.safetensors"}, "family 'sd1'"),
        ({"erasure_1": Given("erasure of sd1", "CONCEPT_ERASURE")}, "family 'sd1'"),
        ({"erasure_1": nothing("CONCEPT_ERASURE")}, "two erasures at least"),
        ({"kept": NAN}, "kept"),
        ({"kept": 0.0}, "kept"),
        ({"precision": "fp8"}, "precision"),
        ({"filename_prefix": "../bad"}, "leads out of"),
        ({"filename_prefix": ""}, "ends without a name"),
        ({"model": LEFT}, "model"),
        ({"clip": nothing("CLIP")}, "the CLIP is empty"),
    ),
    *rows(
        "ShareErasure",
        ({"erasure_name": ""}, "no file is chosen"),
        ({"erasure_name": "gone.safetensors"}, "there is no file"),
        ({"erasure_name": "lora.safetensors"}, "a plain LoRA"),
        ({"erasure_name": "key.safetensors"}, "keep it private"),
        ({"erasure_name": "damaged.safetensors"}, "damaged"),
        ({"folder_prefix": ""}, "ends without a name"),
        ({"folder_prefix": "../bad"}, "leads out of"),
        ({"folder_prefix": "loras/text.safetensors/x"}, "text.safetensors is a file"),
        ({"folder_prefix": "brand/new/x", "erasure_name": "cut.safetensors"}, "not a whole safetensors file"),
        ({"folder_prefix": "shared/" + 300 * "x"}, "too long"),
        ({"licence": LEFT}, "licence"),
        ({"picture": image("no pictures")}, "picture holds no picture"),
        ({"picture": image("two channels")}, "picture has the shape"),
        ({"picture": image("not numbers")}, "picture"),
        ({"picture": model()}, "picture"),
    ),
]
