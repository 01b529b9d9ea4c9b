#!/bin/sh
# Verifies this bundle, installs its wheels beside it, runs its suite and packs the results. Run it again to go on.
#   ./run.sh [OPTIONS OF bench run]           such as --device cpu, --max-minutes 20, --seeds 1
#   PYTHON=/opt/torch/bin/python3 ./run.sh    with another interpreter
suite=@suite@
wanted=@python@
minutes=@minutes@
limit_s=@limit_s@

fail() {
  echo "run.sh: $1" >&2
  exit 2
}

python=$(command -v "${PYTHON:-python3}") || fail "${PYTHON:-python3} not found: name an interpreter, PYTHON=/path/to/python3 ./run.sh"
case $python in /*) ;; *) python=$PWD/$python ;; esac
cd "$(dirname "$0")" || exit 2
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || fail "$python does not start"
[ "$found" = "$wanted" ] ||
  fail "this bundle is for Python $wanted, and $python is $found: PYTHON=/path/to/python$wanted ./run.sh, or bundle again with --python $found"

export PYTHONSAFEPATH=1 PYTHONPATH="$PWD/source:$PWD/site${PYTHONPATH:+:$PYTHONPATH}"
"$python" -m bench.offline.install || exit

if [ -d data ]; then set -- --data data "$@"; fi
set -- --device cuda --results results --max-minutes "$minutes" "$@" # of an option given twice the last one counts
trap : INT # Ctrl-C ends the run; what is finished is packed all the same
timeout --foreground --signal=INT --kill-after=60 "$limit_s" "$python" -m bench run "$suite" "$@"
code=$?
trap - INT
[ "$code" -ne 2 ] || exit 2
"$python" -m bench pack --results results --out parcels || exit
exit "$code"
