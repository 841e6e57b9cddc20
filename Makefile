# Two commands do everything: `make demo` (erase a concept, see it) and `make test`. Each makes its own environment.
#   TORCH  the torch requirement. 2.13.0 by default; where pip would fetch a CUDA build you do not need, name a CPU
#          index with INDEX, or a build you have
#   INDEX  extra arguments for pip, such as --index-url or --extra-index-url
PYTHON ?= python3
TORCH ?= torch==2.13.0
INDEX ?=
OUT ?= out/demo
PIP = -m pip install --quiet --disable-pip-version-check $(INDEX)

.PHONY: demo test check pocket clean

demo: .venv-demo/ready
	.venv-demo/bin/python scripts/demo.py --out $(OUT)

test: .venv-test/ready
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .
	.venv-test/bin/mypy
	.venv-test/bin/python -m pytest

.venv-demo/ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python $(PIP) "$(TORCH)"
	.venv-demo/bin/python $(PIP) -e .
	touch $@

.venv-test/ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv-test
	.venv-test/bin/python $(PIP) "$(TORCH)"
	.venv-test/bin/python $(PIP) -e ".[test]"
	touch $@

clean:
	rm -rf .venv-demo .venv-test out .mypy_cache .ruff_cache .pytest_cache
