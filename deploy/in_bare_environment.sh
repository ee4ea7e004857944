#!/usr/bin/env bash
# The steps of the Containerfile without a container: a wheel, a bare virtual environment, a server, a request, SIGTERM.
#
#   deploy/in_bare_environment.sh BUNDLE [PYTHON]
#
# It needs a package index for pip, and leaves nothing behind. PYTHON is python3 where it is not named.
set -euo pipefail
bundle=$(realpath "$1")
python=${2:-python3}
cd "$(dirname "$0")/.."
place=$(mktemp -d)
server=
unset POTSTILL_API_KEYS  # the requests below bring no key
trap '[ -z "$server" ] || kill -9 "$server" 2>/dev/null || true; rm -rf "$place"' EXIT

"$python" -m venv "$place/build"
"$place/build/bin/python" -m pip wheel --quiet --no-deps --wheel-dir "$place/wheels" .
"$python" -m venv "$place/run"
"$place/run/bin/python" -m pip install --quiet --constraint constraints.txt \
    "potstill[serve] @ file://$(echo "$place"/wheels/potstill-*.whl)"
echo "installed: $(du -sm "$place/run" | cut -f1) MB"
# A prediction with neither torch nor transformers: nothing of the kind was installed, or is asked for.
"$place/run/bin/python" - "$bundle" <<'PREDICT'
import importlib.util
import sys
import time

began = time.perf_counter()
from potstill.runtime.bundle_predictor import BundlePredictor

imported = time.perf_counter()
with BundlePredictor.open(sys.argv[1]) as predictor:
    text = ("a text", "another") if predictor.bundle.reading.takes_pairs else "a text"
    predictor.predict([text])
print(f"imported in {imported - began:.2f} s, first prediction after {time.perf_counter() - began:.2f} s")
heavy = {name for name in ("torch", "transformers") if name in sys.modules or importlib.util.find_spec(name)}
sys.exit(f"installed or imported: {heavy}" if heavy else 0)
PREDICT

cd /
"$place/run/bin/potstill" serve "served=$bundle" --port 0 2>"$place/log" &
server=$!
for _ in $(seq 300); do
    address=$(sed -n 's/.*"addresses": \["\([^"]*\)"\].*/\1/p' "$place/log")
    [ -z "$address" ] || break
    kill -0 "$server" || { cat "$place/log"; exit 1; }
    sleep 0.1
done
[ -n "$address" ] || { echo "the server did not start"; cat "$place/log"; exit 1; }
# What HEALTHCHECK runs, and a request; a bundle of pairs takes the second form.
ask='import json, sys, urllib.error, urllib.request
address = sys.argv[1]
urllib.request.urlopen(f"http://{address}/health", timeout=5)
def predict(inputs):
    body, kind = json.dumps({"inputs": inputs}).encode(), {"Content-Type": "application/json"}
    return urllib.request.urlopen(urllib.request.Request(f"http://{address}/predict", body, kind), timeout=30).read()
try:
    print(predict("a text").decode())
except urllib.error.HTTPError as error:
    if error.code != 422:
        raise
    print(predict(["a text", "another"]).decode())'
"$place/run/bin/python" -c "$ask" "$address"
kill -TERM "$server"
wait "$server"
server=
echo "ended with exit code 0"
