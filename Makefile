# `make demo` erases a concept and shows it, `make test` tests, `make comfyui` starts the nodes on a real ComfyUI. Each
# makes its own environment.
#   TORCH  the torch requirement. 2.13.0 by default; where pip would fetch a CUDA build you do not need, name a CPU
#          index with INDEX, or a build you have
#   VISION the torchvision of that torch, which the tests' tools ask for: without it pip takes the newest, and another
#          torch with it
#   COMFYUI_PATH  a ComfyUI of your own to test on, in an environment with its own requirements (COMFYUI_PATH=~/ComfyUI make test)
#   INDEX  extra arguments for pip, such as --index-url or --extra-index-url
PYTHON ?= python3
TORCH ?= torch==2.13.0
VISION ?= torchvision==0.28.0
INDEX ?=
OUT ?= out/demo
TESTS = .venv-test$(if $(COMFYUI_PATH),-own)
PIP = -m pip install --quiet --disable-pip-version-check $(INDEX)

.PHONY: demo test comfyui clean

demo: .venv-demo/ready
	.venv-demo/bin/python scripts/demo.py --out $(OUT)

test: $(TESTS)/ready
	$(TESTS)/bin/ruff check .
	$(TESTS)/bin/ruff format --check .
	$(TESTS)/bin/mypy
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(TESTS)/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile --durations 10

# A real ComfyUI with this repository as a custom node; COMFYUI_PATH uses one of your own.
comfyui:
	$(PYTHON) scripts/comfyui_host.py start

.venv-demo/ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python $(PIP) "$(TORCH)"
	.venv-demo/bin/python $(PIP) -e ".[report]"
	touch $@

$(TESTS)/ready: requirements.txt requirements-test-host.txt requirements-test-tools.txt pyproject.toml
	$(PYTHON) -m venv $(TESTS)
	$(TESTS)/bin/python $(PIP) "$(TORCH)"
	$(TESTS)/bin/python $(PIP) --no-deps "$(VISION)"
	$(TESTS)/bin/python $(PIP) -e ".[test]"
	$(TESTS)/bin/python scripts/comfyui_host.py install
	touch $@

clean:
	rm -rf .venv-demo .venv-test .venv-test-own .cache out .mypy_cache .ruff_cache .pytest_cache
