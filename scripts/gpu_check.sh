#!/usr/bin/env bash
# Checks on one GPU of a bare machine, which has Python 3.12 with torch and transformers of its own:
#   scripts/gpu_check.sh --part a|b|c|g [--device cpu --tiny] [--out FOLDER]
# Wheels of what it lacks lie in .gpu/base (make gpu-bundle). A part ends by itself within 4 minutes;
# the same command goes on with what is missing. PYTHON names another Python.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"
site="${GPU_SITE:-${TMPDIR:-/tmp}/rlcredit-gpu-site}"
if [ -d .gpu/base/wheels ] && [ -z "${PYTHON:-}" ] && [ ! -e "$site/.whole" ]; then
  "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir \
    --target "$site" .gpu/base/wheels/*.whl
  touch "$site/.whole"
fi
if [ -d .gpu/base/data/esci ] && [ ! -e data/esci ]; then
  mkdir -p data && cp -r .gpu/base/data/esci data/esci
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}:$site"
export PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 CUBLAS_WORKSPACE_CONFIG=:4096:8
exec timeout --kill-after=5 238 "$python" -m scripts.gpu_check "$@"
