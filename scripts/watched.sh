#!/bin/sh
# watched.sh WHAT FOLDER MEGABYTES COMMAND...
#
# Runs a command that says nothing for minutes; every 4 s a line tells the time and how large
# FOLDER has become, of the MEGABYTES that it had at most when this was last measured. What the
# command downloads lies in it, too, until it ends.
what=$1 folder=$2 most=$3
shift 3
echo "$what"
began=$(date +%s)
mkdir -p "$folder/tmp"
TMPDIR=$(cd "$folder" && pwd)/tmp "$@" &
work=$!
trap 'kill $work 2>/dev/null' INT TERM
trap 'rm -rf "$folder/tmp"' EXIT
while sleep 4; kill -0 $work 2>/dev/null; do
  size=$(du -sm "$folder" 2>/dev/null | cut -f 1)
  echo "  ... $(($(date +%s) - began)) s, ${size:-0} of about $most MB"
done
wait $work
