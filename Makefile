# `make run` and `make test` are all it takes on a fresh machine; tools/ has the how.
# PYTHON=... chooses the interpreter (3.11 or newer).
export PYTHON ?= python3

.PHONY: help run test test-ecosystem bench bench-peers wheel sdist conformance sanitize format lint types docs clean

help:             ## list these targets
	@sed -n 's/^\([a-z-]*\): *##/  make \1\t/p' Makefile | expand -t 24

run:              ## set everything up, run the examples and a short benchmark
	@tools/setup examples
	.venv/bin/python examples/run_all.py
	.venv/bin/python -m benchmarks --quick

test:             ## set everything up and run the test suite; ARGS=... for pytest
	@tools/setup test examples
	.venv/bin/python -m pytest $(ARGS)

test-ecosystem:   ## set everything up and run real clients, servers and frameworks; ARGS=... for pytest
	@tools/ecosystem "$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')" $(ARGS)

bench:            ## every benchmark: tables, and charts in build/bench; ARGS=--quick takes two minutes
	@tools/setup
	@tools/setup-bench bench
	.venv/bin/python -m benchmarks --json build/bench/results.json \
		--markdown build/bench/results.md --charts build/bench $(ARGS)

bench-peers:      ## install the other loops that have wheels for this Python, for `make bench`
	@tools/setup
	@tools/setup-bench peers

wheel:            ## dist/*.whl with libuv bundled
	@tools/package wheel

sdist:            ## dist/*.tar.gz
	@tools/package sdist

conformance:      ## CPython's own asyncio tests, on every Python from 3.11 to 3.15 that is here
	@tools/conformance

sanitize:         ## the test suite under AddressSanitizer and UndefinedBehaviorSanitizer
	@tools/sanitize $(ARGS)

format:           ## bring the sources into shape
	@tools/setup lint
	.venv/bin/clang-format -i src/*.[ch] benchmarks/native/*.[ch]
	.venv/bin/ruff check --fix-only .

lint:             ## say what `make format` would change, and what ruff finds
	@tools/setup lint
	.venv/bin/clang-format --dry-run -Werror src/*.[ch] benchmarks/native/*.[ch]
	.venv/bin/ruff check .

types:            ## check the stubs against the package, and the examples against the stubs
	@tools/setup types
	.venv/bin/mypy examples tests/typing
	.venv/bin/pyright --pythonpath .venv/bin/python
	.venv/bin/python -m mypy.stubtest --mypy-config-file pyproject.toml \
	    --allowlist tests/typing/stubtest-allowlist.txt hotloop

docs:             ## the documentation as a web site, in build/site
	@tools/setup docs
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

clean:            ## remove all that was built and installed here
	rm -rf .venv build dist python/*.egg-info python/hotloop/*.so
