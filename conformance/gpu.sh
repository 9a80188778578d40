#!/usr/bin/env bash
# Runs the conformance suite on a machine without network, from a folder of wheels: all CUDA targets, and the CPU ones.
#
#   conformance/gpu.sh WHEELS OUT [LEVEL]
#
# WHEELS holds wheels of the libraries to be tested (torch, jax with its CUDA plugin, cupy) and of what they and janode
# need, for the machine's Python: what `pip download` gives. OUT is a folder for the results. Nothing outside of this
# checkout, WHEELS and OUT is read, and nothing is installed outside of OUT. The exit code is the suite's.
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

"${PYTHON:-python3}" -m venv "$out/venv"
pip=("$out/venv/bin/python" -m pip --isolated --disable-pip-version-check install --quiet --no-index --find-links "$wheels")

# What has a wheel is tested; what has none is absent, and the report says so.
names=()
for library in torch jax jaxlib cupy_cuda12x cupy_cuda13x jax_cuda12_plugin jax_cuda12_pjrt jax_cuda13_plugin jax_cuda13_pjrt; do
    compgen -G "$wheels/$library-*.whl" >/dev/null && names+=("${library//_/-}")
done
"${pip[@]}" "setuptools>=77" wheel
# A build leaves files beside the sources: it gets a copy.
mkdir -p "$out/sources"
(cd "$sources" && cp -R backends conformance core frontends pyproject.toml README.md LICENSE "$out/sources")
"${pip[@]}" --no-build-isolation "$out/sources[cli]" array-api-strict ${names[@]+"${names[@]}"}
JANODE_COMMIT=$(git -C "$sources" rev-parse HEAD 2>/dev/null || true)
export JANODE_COMMIT

# From another folder, so that what was installed is what runs.
cd "$out"
status=0
for device in cuda cpu; do
    XLA_PYTHON_CLIENT_PREALLOCATE=false "$out/venv/bin/python" -m janode.conformance --device "$device" \
        --level "$level" --jobs 1 --json "$out/$device.json" || status=1
done
"$out/venv/bin/python" -m janode.conformance merge "$out/cuda.json" "$out/cpu.json" \
    --json "$out/report.json" --html "$out/report.html" --junit "$out/report.xml" >/dev/null || status=1
echo "results: $out/report.json, report.html, report.xml"
exit "$status"
