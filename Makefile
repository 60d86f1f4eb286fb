.DEFAULT_GOAL := help
TORCH ?= 2.13.0
PYTHON ?= python3
PY := .venv/bin/python
TYPECHECKED := core codec lowlight motion data stats web teachers
# these pass values of the wrong type on purpose, to see the library's own error
WRONG_TYPES := \
  tests/unit/attention/test_attention_attach.py::test_precision_must_be_one \
  tests/unit/attention/test_attention_attach_oddities.py::test_modules_that_can_name_nothing_are_refused \
  tests/unit/attention/test_attention_attach_sdpa.py::test_what_is_no_module_or_policy_is_refused \
  tests/unit/attention/test_attention_attend.py::test_varlen_offsets_refused \
  tests/unit/attention/test_attention_attend.py::test_arguments_refused \
  tests/unit/attention/test_attention_layout_convert.py::test_from_mask_refuses \
  tests/unit/attention/test_attention_layout_convert.py::test_flex_attention_agrees \
  tests/unit/attention/test_attention_layout_convert.py::test_union_of_grouped_heads \
  tests/unit/attention/test_attention_wrong_types.py \
  tests/unit/core/test_core_media.py::test_write_image_checks_its_arguments \
  tests/unit/motion/test_posecodes_text.py::test_what_is_no_sentence_is_refused \
  tests/unit/motion/test_posecodes_evaluate.py::test_a_side_that_is_none_is_named \
  tests/unit/motion/test_motion_body.py::test_a_hand_that_there_is_not_is_refused \
  tests/unit/motion/director/test_director_loop.py::test_arguments_that_do_not_fit_are_named \
  tests/unit/motion/director/test_director_loop.py::test_an_unknown_mode_is_named \
  tests/unit/motion/director/test_director_timing.py::test_an_unknown_ease_is_named \
  tests/unit/codec/test_pixel_ladder.py::test_its_arguments_are_named \
  tests/unit/codec/test_entropy.py::test_bad_scales_are_named \
  tests/unit/codec/test_feature_wrong_types.py \
  tests/unit/codec/test_fit.py::test_bad_arguments_are_named \
  tests/unit/codec/test_fit.py::test_pictures_that_do_not_fit \
  tests/unit/codec/test_entropy.py::test_arguments_are_named \
  tests/unit/lowlight/test_lowlight_curve.py::test_strength_and_errors \
  tests/unit/lowlight/test_lowlight_curve_paths.py::test_arguments_are_named \
  tests/unit/lowlight/test_lowlight_curve_export.py::test_wrong_shapes_are_named \
  tests/unit/lowlight/test_lowlight_align.py::test_an_unknown_method_is_named \
  tests/unit/lowlight/test_lowlight_regimes.py::test_regimes_wrong_shapes_and_types \
  tests/unit/lowlight/test_lowlight_denoise.py::test_denoise_wrong_shapes_and_types \
  tests/unit/lowlight/test_lowlight_baselines.py::test_baselines_wrong_shapes_and_types \
  tests/unit/lowlight/test_lowlight_metrics.py::test_metrics_wrong_shapes_and_types \
  tests/unit/lowlight/test_lowlight_metrics.py::test_answers_wrong_shapes \
  tests/unit/lowlight/test_lowlight_flow.py::test_a_clip_of_wrong_shapes_is_named \
  tests/unit/data/test_moving_layers.py::test_wrong_shapes_are_named \
  tests/unit/data/test_figures.py::test_wrong_shapes_are_named \
  tests/unit/data/test_sensor_noise_exposure.py::test_bad_arguments \
  tests/unit/data/test_sensor_noise_shot.py::test_wrong_shapes_and_types_of_shoot \
  tests/unit/teachers/test_teachers_action.py::test_wrong_shapes_and_types_are_named \
  tests/unit/teachers/test_teachers_detectors.py::test_disagreement_refuses \
  tests/unit/teachers/test_teachers_graph_hostile.py::test_any_change_of_the_json_ends_in_our_errors \
  tests/unit/teachers/test_teachers_flow.py::test_wrong_shapes_and_types_are_named \
  tests/unit/data/test_taskworld_wrong_types.py \
  tests/unit/teachers/test_teachers_task_losses.py::test_what_does_not_fit_is_named \
  tests/unit/teachers/test_teachers_task_network.py::test_images_that_are_none_are_named \
  tests/unit/teachers/test_teachers_task_network.py::test_features_that_are_none_are_named \
  tests/unit/teachers/test_teachers_task_network.py::test_names_that_do_not_exist_are_named \
  tests/unit/teachers/test_teachers_lite.py::test_wrong_shapes_are_refused
.PHONY: help setup demo test kernels ci lint types docs bench gpu clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-8s %s\n", $$1, $$2}'

setup: .venv/.ready ## Make .venv if missing and install what is needed (TORCH=2.13.0)

.venv/.ready: pyproject.toml
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check torch==$(TORCH)
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[all,dev]'
	touch $@

demo: setup ## See, send, think and act on real input; writes out/demo/report.html
	$(PY) -m foveal demo --out out/demo

test: setup ## Run the tests (fetches the packaged samples once)
	$(PY) -m pytest -q -n 2 -m "not gpu" --ignore=tests/kernels --durations=20 $(PYTEST_FLAGS)

kernels: setup ## Run the Triton kernels by its interpreter, and compile them; wants no GPU
	TRITON_INTERPRET=1 $(PY) -m pytest tests/kernels -n 2 -q -m "not gpu"
	$(PY) -m pytest tests/kernels/test_kernels_compile.py -n 2 -q

lint: setup ## Format, lint, import rules, file sizes, spelling
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	.venv/bin/lint-imports
	$(PY) tools/check_sizes.py
	.venv/bin/codespell

types: setup ## Check the types
	.venv/bin/pyright

docs: setup ## Fill the generated parts of the documents from committed results
	$(PY) tools/fill_docs.py

ci: lint types ## What .ci/run does
	$(PY) tools/fill_docs.py --check
	$(PY) -m foveal samples fetch
	$(PY) -m pytest -q -n 2 -m "not gpu and not assets" --jaxtyping-packages=foveal,beartype.beartype \
	  $(WRONG_TYPES:%=--deselect=%) tests/unit/attention tests/against_reference
	PYTHONPATH=tools $(PY) -m pytest -q -n 2 -m "not gpu and not assets" --jaxtyping-packages=foveal,typecheck.check \
	  $(WRONG_TYPES:%=--deselect=%) $(TYPECHECKED:%=tests/unit/%)
	$(MAKE) --no-print-directory kernels
	CI=true $(MAKE) --no-print-directory test PYTEST_FLAGS="--cov=foveal --cov-branch --cov-report= --cov-fail-under=85"

bench: setup ## Measure motion and attention on this machine
	$(PY) benchmarks/motion.py
	$(PY) benchmarks/attention.py

gpu: setup ## Run the kernels and the tests that need a CUDA device on one
	$(PY) -m pytest -q tests/kernels
	$(PY) -m pytest -q -m gpu --ignore=tests/kernels

clean: ## Remove .venv and everything that was made
	rm -rf .venv out .pytest_cache .ruff_cache .hypothesis
