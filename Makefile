# Every target prepares .venv first; when nothing has changed that takes a tenth of a second.
PYTHON ?= python3
RUN := .venv/bin/python
# The interfaces built into .venv are found beside those of a sourced ROS 2.
export LD_LIBRARY_PATH := $(CURDIR)/.venv/lib$(addprefix :,$(LD_LIBRARY_PATH))

.DEFAULT_GOAL := help
.PHONY: help environment demo test test-gpu bench soak bench-gpu lint types package check tables lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

environment:  ## prepare .venv: packages, ROS 2 (a sourced one, or wheels), vision_msgs
	@$(PYTHON) environment/set_up.py

demo: environment  ## classify photographs over ROS 2; or IMAGES=folder, VIDEO=file, CAMERA=0
	@$(RUN) -m cnn_perception.tools.demo $(if $(IMAGES),--images '$(IMAGES)') \
		$(if $(VIDEO),--video '$(VIDEO)') $(if $(CAMERA),--camera '$(CAMERA)') $(ARGS)

# Much of a test of a node is waiting, so two at once take little more than half of the time.
test: environment  ## run all tests, two files at once; TESTS=path or ARGS='-k name' select
	@$(RUN) -m pytest $(or $(TESTS),-n 2 --dist loadfile --no-loadscope-reorder) $(ARGS)

# None of these needs ROS 2.
GPU_TESTS := test/test_backends.py test/test_cuda.py test/test_fusing.py test/test_weights.py
test-gpu: environment  ## run the tests that need a GPU
	@$(RUN) -m pytest -m gpu $(or $(TESTS),$(GPU_TESTS)) $(ARGS)

bench: environment  ## measure everything that is promised, with targets; ROWS selects, ARGS=--record
	@$(RUN) benchmarks/bench.py $(ROWS) $(ARGS)

soak: environment  ## many minutes of cameras, viewers and restarts; MINUTES=10, ARGS=--record
	@$(RUN) benchmarks/soak.py --minutes $(or $(MINUTES),10) $(ARGS)

bench-gpu: environment  ## measure what is promised of a GPU, if there is one; ARGS=--record
	@$(RUN) benchmarks/bench_gpu.py $(ARGS)

lint: environment  ## style: ruff
	@$(RUN) -m ruff check .

types: environment  ## types: mypy on the package outside ros/, and on environment/
	@$(RUN) -m mypy

package: environment  ## colcon build, then start the built nodes
	@$(RUN) environment/check_package.py

check: lint types test package  ## everything that continuous integration runs

tables: environment  ## write the parameter tables into README.md
	@$(RUN) environment/write_tables.py

lock: environment  ## pin the newest versions in environment/*.txt
	@cd environment && for name in jazzy kilted sourced-numpy1 sourced-numpy2; do \
		../.venv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.10 \
			--no-header --no-annotate $$name.in --output-file $$name.txt || exit 1; done

clean:  ## remove .venv and everything that was built
	rm -rf .venv .venv.lock build install log demo_output
