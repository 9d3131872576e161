#!/bin/sh
# Renew the lock files: exact versions with hashes, and no registry's address. Usage: lock.sh VENV_BIN
set -eu
bin=$1
"$bin/python" -m pip install --quiet pip-tools
export CUSTOM_COMPILE_COMMAND="make lock"
compile() {
  "$bin/pip-compile" --quiet --generate-hashes --strip-extras --allow-unsafe \
    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --output-file "$@"
}
compile requirements/build.txt requirements/build.in
compile requirements/runtime.txt pyproject.toml
for name in dev cloud sdk1 sdk2 openrouter postgres cc node browser; do compile "requirements/$name.txt" "requirements/$name.in"; done
