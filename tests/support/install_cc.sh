#!/bin/sh
# Install a C compiler for the tests, if there is none: from Debian's packages, else from PyPI, at the version and hashes of the lock file.
# Usage: install_cc.sh PYTHON. tests/support/shim.py uses it.
set -eu
python=$1
root=$(cd "$(dirname "$0")/../.." && pwd)

found() { ( cd "$root" && "$python" -c 'from tests.support.shim import find_compiler; find_compiler()' >/dev/null 2>&1 ); }

found && exit 0
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
  echo "installing a C compiler from Debian's packages"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq gcc libc6-dev >/dev/null || true
fi
found && exit 0
echo "installing a C compiler from PyPI"
"$python" -m pip install --disable-pip-version-check --quiet --require-hashes --upgrade \
  --target "$root/.cache/cc" -r "$root/requirements/cc.txt"
found
