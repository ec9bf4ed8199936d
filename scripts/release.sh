#!/bin/sh
# release.sh [FOLDER]: a source distribution and a wheel of this tree in FOLDER (dist), built, checked
# and installed into an empty environment. It uploads nothing.
set -e
out=${1:-dist}
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ -z "$(git status --porcelain)" ] || echo "warning: the tree has changes that are not committed"

echo "[1/4] the tools: build and twine"
"$python" -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet -c constraints.txt build twine

echo "[2/4] the source distribution, and the wheel from it"
rm -rf "$out"
"$work/tools/bin/python" -m build --outdir "$out" . >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }

echo "[3/4] names, description and metadata"
"$work/tools/bin/twine" check --strict "$out"/*

echo "[4/4] the wheel in an empty environment"
"$python" -m venv "$work/empty"
"$work/empty/bin/pip" install --quiet -c constraints.txt "$out"/*.whl
(cd "$work" && "$work/empty/bin/intaglio" --version)

ls -l "$out"
echo "nothing was uploaded; whoever may do so: pip install twine && twine upload $out/*"
