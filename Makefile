# Every target works on a fresh machine: it makes .venv first.
PYTHON ?= python3
BIN := .venv/bin
DEMO := corpora/demo

.PHONY: quickstart evidence cpu test test-fast test-long coverage check reference lock groups clean
.DELETE_ON_ERROR:

# uv, because pip would pick another build of torch where one lies nearer. Bytecode is compiled here:
# where PYTHONDONTWRITEBYTECODE is set, each process would compile all it imports, for seconds.
.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13) and 'FlexBERT needs Python 3.11 or 3.12: make PYTHON=python3.12')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python \
		--no-deps -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@

# Without CUDA, gigabytes smaller, for machines without a GPU. uv knows where torch's own builds for
# CPUs are; the lock's versions stay.
cpu: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	grep -vE '^(nvidia|cuda|triton)' requirements.lock > .venv/cpu.lock
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python \
		--torch-backend cpu --no-deps -r .venv/cpu.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch .venv/ready

quickstart: .venv/ready
	$(BIN)/python -m data_prep demo --out $(DEMO)/text
	test -d $(DEMO)/tokenizer || $(BIN)/python -m data_prep tokenizer --vocab-size 8192 --out $(DEMO)/tokenizer $(DEMO)/text
	$(BIN)/python -m data_prep corpus --tokenizer $(DEMO)/tokenizer --validation 0.02 --out $(DEMO)/corpus $(DEMO)/text
	$(BIN)/python main.py yamls/quickstart.yaml
	$(BIN)/python benchmarks/verify_run.py runs/quickstart
	rm -rf runs/quickstart/huggingface
	$(BIN)/flexbert export runs/quickstart runs/quickstart/huggingface
	$(BIN)/python benchmarks/fill_mask.py runs/quickstart/huggingface
	$(BIN)/flexbert evaluate yamls/suites/offline.yaml quickstart=runs/quickstart --tasks code_names --frozen --untrained --out runs/quickstart/results "defaults.seeds=[17]"

# About an hour and a half on two cores; what is trained already stays in sweeps/evidence.
evidence: .venv/ready
	$(BIN)/python -m benchmarks.evidence --page docs/evidence.md

# Each file is one process's: its tests share what is slow to make.
PARALLEL := -n $(or $(TEST_PROCESSES),2) --dist loadfile

test: .venv/ready
	$(BIN)/python -m pytest -m "not long" $(PARALLEL)

test-fast: .venv/ready
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

# What is slow with more processes, signals, optimizers: by hand, before a release.
test-long: .venv/ready
	$(BIN)/python -m pytest -m long $(PARALLEL)

# A third slower: the processes that tests start are followed too.
coverage: .venv/ready
	$(BIN)/python -m pytest --cov -m "not long" $(PARALLEL)

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The page of all keys, from the code.
reference: .venv/ready
	$(BIN)/python -m flexbert.key_reference > docs/reference/keys.md
	$(BIN)/python -m flexbert.commands.command_reference > docs/reference/commands.md

# Versions stay as they are where pyproject.toml and overrides.txt allow it.
lock: .venv/ready
	$(BIN)/uv pip compile pyproject.toml --extra dev --override overrides.txt --universal \
		--python-version 3.11 --no-header --no-annotate --no-emit-index-url --quiet -o requirements.lock

# Each optional group resolves together with the lock.
groups: .venv/ready
	for group in flash datasets html embeddings search; do \
		$(BIN)/uv pip compile pyproject.toml --extra $$group --override overrides.txt \
			--constraint requirements.lock --universal --python-version 3.11 --quiet \
			>/dev/null || exit 1; \
	done

clean:
	rm -rf .venv runs corpora
