"""The examples at the end of the help."""

ERASE = """\
examples
  erase a church from the pocket model, scored, in about a minute:
    python -m eraser_core erase --concept church --out out/church
  put something else in its place, and keep these:
    python -m eraser_core erase --concept guitar --anchor trumpet --retain violin drum --out out/guitar
  a style; two concepts at once (one hidden prompt each):
    python -m eraser_core erase --concept ink --out out/ink
    python -m eraser_core erase --concept church castle --out out/two
  your own checkpoint, with little memory:
    python -m eraser_core erase --model model.safetensors --concept church --memory low --images 0 --out out/mine
  go on after Ctrl-C:
    python -m eraser_core erase --resume out/church

It writes DIR/church.safetensors, to share, and DIR/private/church_hidden_prompt.safetensors, which brings the concept back.
The hidden prompt is no cryptographic key: whoever has the erased weights can train a prompt of their own, and whoever
leaves the erasure file out has the original model.
"""

GENERATE = """\
examples
    python -m eraser_core generate --erasure out/church/church.safetensors --prompt "a church"
    python -m eraser_core generate --erasure out/church/church.safetensors \\
        --hidden-prompt out/church/private/church_hidden_prompt.safetensors --prompt "a church"
"""

SCORE = """\
example
    python -m eraser_core score --erasure out/church/church.safetensors
"""

KNOWS = """\
example
    python -m eraser_core knows --concept church ink
"""

BENCHMARK = """\
example
    python -m eraser_core benchmark pocket --erasure out/church/church.safetensors --out out/evaluation
"""

INFO = """\
examples
    python -m eraser_core info model.safetensors
    python -m eraser_core info out/church/church.safetensors
    python -m eraser_core info --model pocket
"""

MERGE = """\
example
    python -m eraser_core merge --model model.safetensors --erasure out/mine/church.safetensors --out erased.safetensors
"""

OF = {
    "erase": ERASE,
    "generate": GENERATE,
    "score": SCORE,
    "knows": KNOWS,
    "benchmark": BENCHMARK,
    "info": INFO,
    "merge": MERGE,
}

OVERVIEW = """\
examples
  erase a church from the pocket model, scored, in about a minute; draw with the erasure:
    python -m eraser_core erase --concept church --out out/church
    python -m eraser_core generate --erasure out/church/church.safetensors --prompt "a church"
  what the pocket model knows, and what your own checkpoint is:
    python -m eraser_core info --model pocket
    python -m eraser_core info model.safetensors

`python -m eraser_core COMMAND --help` says what a command takes, with examples.
"""
