#!/usr/bin/env bash
# onnxruntime 1.32.0 (the Linux wheel): `import onnxruntime` alone, without a session, writes an identifier of
# the machine and an SQLite data base of events below ~/.cache/Microsoft.
# One would have guessed that a Linux wheel has no telemetry, or that
# `onnxruntime.disable_telemetry_events()` keeps it from anything; it comes after the import, and so too late.
# ORT_DISABLE_TELEMETRY=1 before the import does, and so does CI=1. Where the home cannot be written, the import
# prints a warning. Exits 1 when any of this is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnxruntime==1.32.0
try() { # NAME EXPECTED-NUMBER-OF-FILES CODE [VARIABLE=VALUE]
  mkdir "$work/$1"
  env -i PATH=/usr/bin:/bin HOME="$work/$1" ${4:+"$4"} "$work/venv/bin/python" -c "$3"
  (cd "$work/$1" && find . -type f | sort | sed "s/^/  $1: /")
  [ "$(find "$work/$1" -type f | wc -l)" = "$2" ] || { echo "$1: not $2 files any more"; exit 1; }
}
try imported 2 'import onnxruntime; print("onnxruntime", onnxruntime.__version__)'
try disabled-by-function 2 'import onnxruntime; onnxruntime.disable_telemetry_events()'
try disabled-by-variable 0 'import onnxruntime' ORT_DISABLE_TELEMETRY=1
try in-ci 0 'import onnxruntime' CI=1
