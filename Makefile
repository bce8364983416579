# Two commands are all a newcomer needs: `make lab` and `make test`. `make help` lists the others.
# Each makes .venv if it is missing (with uv where there is one, else with venv and pip), so either may come first.
# Works with GNU make 3.81, which macOS ships.

.DEFAULT_GOAL := help
.PHONY: help lab abuse test test-package test-notebooks test-large test-lowest test-browser course book book-serve \
	assignments bench mutants weights pictures lint address strip clean

UV := $(shell command -v uv 2>/dev/null)
CHECK := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
# The first suitable Python, unless you name one: make lab PYTHON=/path/to/python3.12
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	"$$p" -c "$(CHECK)" >/dev/null 2>&1 && echo "$$p" && break; done)

PY := .venv/bin/python
INSTALLED := .venv/.installed
PIP := $(if $(UV),"$(UV)" pip install --python $(PY),$(PY) -m pip install)

# Tests run side by side with one thread each, unless OMP_NUM_THREADS is set; MINILDM_PACE (test or
# course) says how long the notebooks train.
JOBS ?= 2
ONE_THREAD := OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1}
PYTEST := $(PY) -m pytest -p no:cacheprovider
NBVAL := --nbval-lax --nbval-current-env
LAB_ARGS ?=

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' Makefile

lab: $(INSTALLED) ## open the course in JupyterLab (LAB_ARGS="--no-browser" and the like are passed on)
	$(PY) -m jupyterlab notebooks/00_start_here.ipynb $(LAB_ARGS)

test: lint test-package test-notebooks ## check everything: style, the package, and every notebook at test pace

test-package: $(INSTALLED)
	$(ONE_THREAD) $(PYTEST) tests -n $(JOBS) --cov=minildm --cov-report=
	@echo "Of the package's lines these tests have run $$($(PY) -m coverage report --format=total) %."

test-notebooks: $(INSTALLED)
	$(ONE_THREAD) MINILDM_PACE=test $(PYTEST) notebooks $(NBVAL) --nbval-cell-timeout=600 -n $(JOBS) --dist loadfile

course: $(INSTALLED) ## run every notebook at the reader's pace, every claim asserted
	MINILDM_PACE=course $(PYTEST) notebooks $(NBVAL) --nbval-cell-timeout=1200 --durations=20

BOOK := .venv/.book
BROWSER := .venv/.browser
PORT ?= 8000

book: $(BOOK) ## the whole course as web pages in _build/html, every chapter run (MINILDM_PACE=test runs them faster)
	@$(PY) browser/build.py _build/static/draw; status=$$?; test $$status = 0 || test $$status = 3 || exit $$status
	$(PY) -m sphinx -b html -c docs -W --keep-going . _build/html

book-serve: ## serve the book on this machine; modules, and so the drawing, do not load from file://
	@test -f _build/html/index.html || { echo "There is no book yet: make book" >&2; exit 1; }
	@echo "The book is at http://127.0.0.1:$(PORT)/docs/index.html (Ctrl-C ends it)"
	@$(PY) -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

test-browser: book $(BROWSER) ## open every page of the book in Chromium, which must be on the machine
	$(ONE_THREAD) $(PYTEST) tests_browser -n $(JOBS) --dist loadfile

bench: $(INSTALLED) ## the measured claims, each beside the peer it is measured against
	@for script in $(filter-out benchmarks/mutant% benchmarks/abuse%,$(wildcard benchmarks/*.py)); do echo; echo "== $$script"; $(PY) "$$script" || exit 1; done

INPUTS ?= 10000

abuse: $(INSTALLED) ## INPUTS hostile inputs (functions, files, tokenizer, commands, training folders, submissions): refused in one line, or right
	$(ONE_THREAD) $(PY) -W ignore benchmarks/abuse.py --inputs $(INPUTS)

NUMBER ?= 600
SEED ?= 0
PACKAGES ?=
MUTANTS := .venv/.mutants

mutants: $(MUTANTS) ## plant NUMBER small faults, one at a time: which do the tests notice? (up to six hours; Ctrl-C, and go on)
	$(PY) benchmarks/mutants.py --number $(NUMBER) --seed $(SEED) --jobs $(JOBS) $(if $(PACKAGES),--packages $(PACKAGES))

# The project's address, as book.yml has it, for the badges of the students' notebooks; none without it.
REPOSITORY ?= $(shell sed -n "s/^  repository: *[\"']*\([A-Za-z0-9_./-]*\).*/\1/p" book.yml)

# KEY is the course key; without it one is made, and kept in course.key. PAGES=_build/html puts the book into the zip.
assignments: $(INSTALLED) ## the students' notebooks and a zip of them, in build/assignments (KEY=… PAGES=…)
	@$(if $(KEY),MINILDM_COURSE_KEY='$(KEY)') $(PY) -m minildm.grading.cli release $(if $(REPOSITORY),--repository '$(REPOSITORY)') \
		$(if $(PAGES),--book '$(PAGES)')

weights: $(INSTALLED) ## train the shipped checkpoints again, from the recorded seed and recipe (about six hours)
	rm -rf minildm/weights/*/
	$(PY) scripts/make_weights.py
	$(MAKE) pictures

# The steps are those of four minutes on two quiet cores, seed 0 of benchmarks/four_minutes.json.
pictures: $(INSTALLED) ## draw the README's pictures again (trains for four minutes)
	$(PY) -m minildm.cli train --preset mnist --steps 370,818,1468 --out runs/pictures
	$(PY) -m minildm.cli sample --model runs/pictures --prompts-file docs/prompts.txt --num 16 --out docs/digits_four_minutes.png
	$(PY) -m minildm.cli sample --prompts-file docs/prompts.txt --num 16 --out docs/digits.png
	$(PY) -m minildm.cli sample --model scenes --prompts-file docs/scene_prompts.txt --num 9 --out docs/scenes.png
	$(PY) scripts/draw_machine.py docs/machine.png

lint: $(INSTALLED) ## style, layout and types, and the shape of what a host reads; .pre-commit-config.yaml does the same
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright --pythonpath $(PY)
	$(PY) -m check_jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(PY) -m check_jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/*.yml
	$(PY) -m check_jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

address: $(INSTALLED) ## write the project's address, which book.yml says, into the README and the like (or take it out)
	$(PY) docs/hosting.py

strip: $(INSTALLED) ## take the outputs out of the notebooks, which are committed without
	$(PY) -m jupyter nbconvert --clear-output --inplace notebooks/*.ipynb

test-large: $(INSTALLED) ## Stable Diffusion 1.x at full size against diffusers and transformers
	$(PYTEST) tests/test_full_size.py -m large -s --durations=0

test-lowest: ## run the package's tests on the lowest versions that pyproject.toml allows (needs uv)
	uv venv --seed --clear --python "$(PYTHON)" .venv-lowest
	uv pip install --python .venv-lowest/bin/python --resolution lowest-direct -e '.[course,test]'
	$(ONE_THREAD) .venv-lowest/bin/python -m pytest -p no:cacheprovider tests -n $(JOBS)

clean: ## remove the environments and caches; runs/ stays
	rm -rf .venv .venv-lowest .pytest_cache .ruff_cache .coverage build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last, so that a set-up which was interrupted starts again.
$(INSTALLED): pyproject.toml
	@test -n "$(PYTHON)" || test -n "$(UV)" || { \
		echo "minildm needs Python 3.11, 3.12 or 3.13: none found. Name one with: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; }
	@test -z "$(PYTHON)" || "$(PYTHON)" -c "$(CHECK)" || { \
		echo "minildm needs Python 3.11, 3.12 or 3.13, got: $$("$(PYTHON)" --version 2>&1)" >&2; exit 1; }
	@echo "Setting up .venv: a few minutes; about 6 GB on Linux (PyTorch's GPU libraries), 1.5 GB on macOS."
	@$(PY) -m pip --version >/dev/null 2>&1 || { rm -rf .venv; \
		if test -n "$(UV)"; then "$(UV)" venv --quiet --seed --python "$(if $(PYTHON),$(PYTHON),3.12)" .venv; \
		else "$(PYTHON)" -m venv .venv; fi; }
	$(PIP) -e '.[course,test]'
	@$(PY) -m jupyter labextension disable "@jupyterlab/apputils-extension:announcements" >/dev/null 2>&1 # no news pop-up
	@touch $@

$(MUTANTS): $(INSTALLED)
	$(PIP) -e '.[course,test,mutants]'
	@touch $@

$(BOOK): $(INSTALLED)
	$(PIP) -e '.[course,test,book]'
	@touch $@

$(BROWSER): $(BOOK)
	$(PIP) -e '.[course,test,book,browser]'
	@touch $@
