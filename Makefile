# make demo: train, plot and film a small agent within two minutes. make test: the tests. Both set up .venv if needed.
PYTHON ?= python3
PY = .venv/bin/python
PIP = $(PY) -m pip install --quiet --disable-pip-version-check

.PHONY: demo test
.DELETE_ON_ERROR:

.venv/runtime: requirements.txt
	$(PYTHON) -m venv .venv
	$(PIP) -r requirements.txt
	touch $@

.venv/plots: .venv/runtime requirements-dev.txt
	$(PIP) -c requirements-dev.txt matplotlib scipy
	touch $@

.venv/dev: .venv/runtime requirements-dev.txt
	$(PIP) -r requirements-dev.txt
	touch $@

demo: .venv/plots
	@run="runs/demo-$$(date +%Y%m%d-%H%M%S)" && \
	$(PY) algos/ddpg_her_reengage.py --env-id ContinuousSeek5-v0 --total-timesteps 5000 --eval-frequency 1000 \
	    --capture-video --run-dir "$$run" && \
	$(PY) benchmark/tools/plot.py "$$run/curve.png" "ReenGAGE, alpha 0.1=$$run/metrics.csv" && \
	echo "learning curve  $$run/curve.png" && \
	echo "video           $$run/video.gif" && \
	echo "model           $$run/model.pt"

test: .venv/dev
	@$(PY) -m ruff format --check --quiet . && $(PY) -m ruff check --quiet . && $(PY) -m pytest -q
