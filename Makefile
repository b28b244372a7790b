# What a newcomer types. Everything is set up on first use; a second call installs nothing.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
SETUP := PYTHON=$(PYTHON) sh scripts/setup.sh

.PHONY: help setup run handout slides solutions lab dashboard kernel test lint bench clean
help:
	@echo "make run    execute the course in labs of its own: table, executed notebooks and handout under out/"
	@echo "make handout  the course, executed, as a book and notebook by notebook: HTML and PDF under out/handout/"
	@echo "make slides  the course, executed, as slides: HTML and PDF under out/slides/"
	@echo "make solutions  the notebooks with their exercises solved, under out/"
	@echo "make lab    JupyterLab on notebooks/; the lab starts on first use"
	@echo "make dashboard  one page to try everything on, in a browser; SRCIP_LANG=ja for Japanese"
	@echo "make kernel  a User Mode Linux with nftables, for labs without any rights; optional, some minutes, once"
	@echo "make test   the whole test suite"
	@echo "make lint   formatting, docstrings, types, notebooks without output, spelling"
	@echo "make bench  speed and size, printed with ratios"
	@echo "make setup  only what the others share: system packages and .venv"

setup:
	@$(SETUP) run

run:
	@$(SETUP) run
	@$(BIN)/srcip-nb run --out out

handout slides: run
	@$(SETUP) handout
	@$(BIN)/srcip-nb $@ --executed out --out out/$@

solutions:
	@$(SETUP) run
	@$(BIN)/srcip-nb solutions --out out

# Notebooks link to docs/, so JupyterLab serves the checkout and opens on notebooks/. It refuses root without being
# told; its terminals find srcip-nb by PATH.
lab:
	@$(SETUP) run
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks \
		$$([ "$$(id -u)" = 0 ] && echo --allow-root)

# One kernel and one lab for each page that is open; they end with it, and all of them with this command.
SRCIP_LANG ?= en
dashboard:
	@$(SETUP) run
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/voila --Voila.ip=127.0.0.1 notebooks/$(SRCIP_LANG)/dashboard.ipynb

# Optional. What is built lies in the user's cache, not here: `make clean` leaves it.
kernel:
	@sh scripts/kernel.sh

test:
	@$(SETUP) test
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint:
	@$(SETUP) dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/nbstripout --verify $$(git ls-files '*.ipynb')
	$(BIN)/codespell $$(git ls-files)

bench:
	@$(SETUP) test
	@for bench in benchmarks/*.py; do echo "== $$bench"; $(BIN)/python $$bench || exit 1; done

clean:
	rm -rf .venv out
