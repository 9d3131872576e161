#!/bin/sh
# Install the real clients that tests drive: Claude Code from npm, two generations of the anthropic SDK and the openrouter SDK from PyPI.
# Usage: install.sh PYTHON. Everything goes to .cache/, at the versions and hashes of the lock files.
set -eu
python=$1
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=$root/.cache

. "$root/tests/support/find_npm.sh"
mkdir -p "$cache/claude"
cp "$here/package.json" "$here/package-lock.json" "$cache/claude/"
(cd "$cache/claude" && npm ci --no-audit --no-fund --loglevel=error)

for name in sdk1 sdk2 openrouter; do
  venv=$cache/$name
  test -d "$venv" || "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install --disable-pip-version-check --quiet --require-hashes -r "$root/requirements/$name.txt"
done
