# Every target sets up what it needs first: virtual environment, locked packages, workspace.
#   make grasp    a grasp planned from a goal picture, on the simulated robot; also reach, place, push
#   make plan     cell and planner for goals to come, from the RViz panel or the action; until Ctrl-C
#   make replay   plans once more while a recording is played: BAG=runs/…/bag
#   make pick     a scripted grasp on the simulated robot, through the whole ROS graph
#   make data     exploratory episodes, made in parallel; goes on where it was stopped
#   make train    the default world model from nothing, or with RECIPE=FILE one training
#   make eval     planners in closed loop: TASK=reach|grasp|place|push EPISODES= SEED= METHODS=
#   make test     lint, types, import contracts and all tests
#   make bench    measurements, as tables and JSON in runs/bench
# Arguments of a graph in capitals: make pick ARM=fci SEED=3 OBJECTS=can

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON_SOURCES := ros2_ws/src tools benchmarks docker
# What colcon has to look at again: everything but the bodies of Python modules, which are linked.
WORKSPACE_INPUTS := $(shell find ros2_ws/src -type f \( -name package.xml -o -name 'setup.*' \
	-o -name CMakeLists.txt -o -name '*.msg' -o -name '*.srv' -o -name '*.action' \))
WORKSPACE_FILES := $(shell find ros2_ws/src -type d \( -name launch -o -name config -o -name urdf \) \
	-exec find {} -type f \; 2>/dev/null)

# Arguments of the graphs, in capitals for make and in small letters for `ros2 launch`.
GRAPH_ARGUMENTS := arm robot_ip hand seed objects object quality camera camera_device camera_file \
	camera_namespace rate width height speed_scale record params_file log_level runs_dir domain_id \
	goal task model preset device plan_seed execute confirm bag camera_calibration cell_config rviz
capital = $(shell echo '$(1)' | tr a-z A-Z)
arguments = $(foreach a,$(GRAPH_ARGUMENTS),$(if $($(call capital,$(a))),'$(a):=$($(call capital,$(a)))'))

.PHONY: help
help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

.venv/.complete: requirements.lock
	@tools/setup.sh venv

ros2_ws/install/.complete: .venv/.complete $(WORKSPACE_INPUTS) $(WORKSPACE_FILES)
	@tools/setup.sh workspace

.PHONY: setup
setup: ros2_ws/install/.complete

.PHONY: grasp reach place push
grasp reach place push: setup
	@. tools/env.sh && exec python -m dexwm_planner.runner $@ $(arguments)

.PHONY: pick plan replay
pick plan replay: setup
	@. tools/env.sh && exec python -m dexwm_planner.runner $@ $(arguments)

.PHONY: data
data: setup
	@. tools/env.sh && exec python -m dexwm_sim.generate $(DATA)

.PHONY: train
train: setup
	@. tools/env.sh && $(if $(RECIPE),exec dexwm train $(RECIPE),exec tools/train_default.sh)

.PHONY: eval
eval: setup
	@. tools/env.sh && exec python -m dexwm_sim.evaluate $(if $(TASK),--task $(TASK)) \
		$(if $(EPISODES),--episodes $(EPISODES)) $(if $(SEED),--seed $(SEED)) \
		$(if $(METHODS),--methods $(METHODS)) $(if $(MODEL),--model $(MODEL)) $(EVAL)

.PHONY: lint
lint: setup
	@. tools/env.sh && ruff check $(PYTHON_SOURCES) && ruff format --check --quiet $(PYTHON_SOURCES)
	@. tools/env.sh && mypy ros2_ws/src/dexwm/dexwm
	@. tools/env.sh && lint-imports --no-cache
	@. tools/env.sh && hadolint --config docker/.hadolint.yaml docker/*.Dockerfile

# A machine that others use too may stall while processes wait for one another: a test that fails is
# tried once more, and named at the end with what was wrong (RERUN).
.PHONY: test
test: lint
	@. tools/env.sh && pytest -n 2 --dist loadfile --reruns 1 --rerun-show-tracebacks -m 'not realtime'
	@. tools/env.sh && pytest --reruns 1 --rerun-show-tracebacks -m realtime

.PHONY: bench
bench: setup
	@. tools/env.sh && python -m benchmarks.run $(BENCH)

.PHONY: lock
lock: .venv/.complete
	@. .venv/bin/activate && python tools/lock.py

.PHONY: clean
clean:
	rm -rf .venv ros2_ws/build ros2_ws/install ros2_ws/log
