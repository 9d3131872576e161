#!/bin/sh
# Install what the browser tests need: Chromium from Debian's packages if there is none, Playwright from PyPI, axe-core from npm, at the versions
# and hashes of the lock files. Usage: install.sh PYTHON, after tests/clients/install.sh, which sees to npm.
set -eu
python=$1
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=$root/.cache

if ! command -v chromium >/dev/null 2>&1 && ! command -v chromium-browser >/dev/null 2>&1 && ! command -v google-chrome >/dev/null 2>&1; then
  echo "installing Chromium from Debian's packages"
  as_root=""
  [ "$(id -u)" = 0 ] || as_root="sudo"
  $as_root apt-get update -qq
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
fi

"$python" -m pip install --disable-pip-version-check --quiet --require-hashes -r "$root/requirements/browser.txt"

. "$root/tests/support/find_npm.sh"
mkdir -p "$cache/axe"
cp "$here/package.json" "$here/package-lock.json" "$cache/axe/"
(cd "$cache/axe" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
