# make demo      train, plot and film a small agent: two or three minutes
# make test      what ruff and the tests say, a few minutes, a process a core
# make format    let ruff mend what it can
# make docs      build the pages as a site in site/
# make mutants   break the code on purpose, line by line: do the tests notice? (half an hour)
# Each sets up .venv first where that is needed.
PYTHON ?= python3
PY = .venv/bin/python

.PHONY: demo test format mutants docs
.DELETE_ON_ERROR:

# $(call install,what it is,pip's arguments): a dot every two seconds instead of pip's own words
define install
@printf '%s ' "Installing $(1)"; \
$(PY) -m pip install -qq --disable-pip-version-check $(2) & pip=$$!; \
while kill -0 $$pip 2>/dev/null; do printf .; sleep 2; done; \
echo; wait $$pip
endef

.venv/runtime: requirements.txt pyproject.toml
	@echo "Setting up .venv, once; the downloads take a minute or two."
	@$(PYTHON) -m venv .venv
	$(call install,PyTorch and the other packages,-r requirements.txt)
	$(call install,this project,--no-deps --editable .)
	@touch $@

.venv/plots: .venv/runtime requirements-dev.txt
	$(call install,what draws curves,-c requirements-dev.txt matplotlib scipy)
	@touch $@

.venv/dev: .venv/runtime .venv/docs requirements-dev.txt
	$(call install,what tests,-r requirements-dev.txt)
	@touch $@

DEMO = algos/ddpg_her_reengage.py --env-id ContinuousSeek5-v0 --total-timesteps 5000
demo: .venv/plots
	@echo "Training ReenGAGE to reach goals in five dimensions, 5000 steps, a minute or two:"
	@run="runs/demo-$$(date +%Y%m%d-%H%M%S)" && \
	$(PY) $(DEMO) --eval-frequency 1000 --capture-video --run-dir "$$run" && \
	$(PY) benchmark/tools/plot.py "$$run/curve.png" "ReenGAGE=$$run/metrics.csv" >/dev/null && \
	success=$$(tail -n 1 "$$run/metrics.csv" | cut -d, -f2) && \
	echo && \
	echo "After 5000 steps, success at the end of an episode: $$success (1.0: all 50)." && \
	echo "  $$run/curve.png    the learning curve" && \
	echo "  $$run/video.gif    four episodes, filmed" && \
	echo "  $$run/model.pt     the networks" && \
	echo "Go on:" && \
	echo "  source .venv/bin/activate" && \
	echo "  python algos/ddpg_her_reengage.py --resume $$run --total-timesteps 12000" && \
	echo "  python algos/ddpg_her_reengage.py --evaluate $$run/model.pt" && \
	echo "  python algos/ddpg_her_reengage.py --env-id HandReach-v3 --help" && \
	echo "  make test    (installs what the tests need)"

test: .venv/dev
	@$(PY) -m ruff format --check --quiet .
	@$(PY) -m ruff check --quiet .
	@$(PY) -m pytest -q -n auto --dist loadfile

format: .venv/dev
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

mutants: .venv/dev
	@$(PY) tests/mutants.py

.venv/docs: requirements-docs.txt
	@test -x $(PY) || $(PYTHON) -m venv .venv
	$(call install,what builds the site,-r requirements-docs.txt)
	@touch $@

docs: .venv/docs
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet
	@echo "The site: site/index.html"
