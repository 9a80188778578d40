#!/usr/bin/env bash
# Runs the conformance suite on a machine without network, from a folder of wheels: all CUDA targets, and the CPU ones.
#
#   conformance/gpu.sh WHEELS OUT [LEVEL]
#
# Tested are the libraries that $PYTHON (python3) has, or that WHEELS holds: torch, jax with its CUDA plugin, cupy.
# WHEELS needs no more than what janode needs and $PYTHON lacks, for its version: what `pip download` gives of
# array-api-compat, array-api-extra, array-api-strict, checkpoint_schedules, optree, rich, typer and setuptools, say.
# What has neither is absent, and the report says so. All is installed into OUT, a folder, where the results go, too;
# nothing outside of it is written, and nothing is fetched. The exit code is the suite's.
set -euo pipefail

if [ $# -lt 2 ] || [ $# -gt 3 ] || [ ! -d "$1" ]; then
    echo "usage: conformance/gpu.sh WHEELS OUT [LEVEL]: WHEELS must be a folder of wheels; got '${1:-}'" >&2
    exit 2
fi
sources=$(cd "$(dirname "$0")/.." && pwd)
wheels=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
level=${3:-standard}
python=${PYTHON:-python3}

export PYTHONPATH="$out/site" PYTHONDONTWRITEBYTECODE=1
pip=("$python" -m pip --isolated --disable-pip-version-check install --quiet --no-index --no-deps --upgrade --target "$out/site")
if compgen -G "$wheels/*.whl" >/dev/null; then
    "${pip[@]}" "$wheels"/*.whl
fi
# A build leaves files beside the sources: it gets a copy.
mkdir -p "$out/sources"
(cd "$sources" && cp -R backends conformance core frontends pyproject.toml README.md LICENSE "$out/sources")
"${pip[@]}" --no-build-isolation "$out/sources"
JANODE_COMMIT=$(git -C "$sources" rev-parse HEAD 2>/dev/null || true)
export JANODE_COMMIT

# From another folder, so that what was installed is what runs.
cd "$out"
status=0
for device in cuda cpu; do
    XLA_PYTHON_CLIENT_PREALLOCATE=false "$python" -m janode.conformance --device "$device" \
        --level "$level" --jobs 1 --json "$out/$device.json" || status=1
done
"$python" -m janode.conformance merge "$out/cuda.json" "$out/cpu.json" \
    --json "$out/report.json" --html "$out/report.html" --junit "$out/report.xml" >/dev/null || status=1
echo "results: $out/report.json, report.html, report.xml"
exit "$status"
