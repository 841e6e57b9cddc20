# `make demo` erases a concept and shows it, `make test` tests, `make comfyui` starts the nodes on a real ComfyUI. Each
# makes its own environment.
#   TORCH  the torch requirement. 2.13.0 by default; where pip would fetch a CUDA build you do not need, name a CPU
#          index with INDEX, or a build you have
#   INDEX  extra arguments for pip, such as --index-url or --extra-index-url
PYTHON ?= python3
TORCH ?= torch==2.13.0
INDEX ?=
OUT ?= out/demo
PIP = -m pip install --quiet --disable-pip-version-check $(INDEX)

.PHONY: demo test comfyui clean

demo: .venv-demo/ready
	.venv-demo/bin/python scripts/demo.py --out $(OUT)

test: .venv-test/ready
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .
	.venv-test/bin/mypy
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE .venv-test/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile --durations 10

# A real ComfyUI with this repository as a custom node; COMFYUI_PATH uses one of your own.
comfyui:
	$(PYTHON) scripts/comfyui_host.py start

.venv-demo/ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python $(PIP) "$(TORCH)"
	.venv-demo/bin/python $(PIP) -e .
	touch $@

.venv-test/ready: requirements.txt requirements-test-host.txt pyproject.toml
	$(PYTHON) -m venv .venv-test
	.venv-test/bin/python $(PIP) "$(TORCH)"
	.venv-test/bin/python $(PIP) -e ".[test]"
	.venv-test/bin/python scripts/comfyui_host.py install
	touch $@

clean:
	rm -rf .venv-demo .venv-test .cache out .mypy_cache .ruff_cache .pytest_cache
