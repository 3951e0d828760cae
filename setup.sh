#!/bin/sh
# Makes .venv beside this script: every package of requirements.lock, checked against its hash, then tidegate, editable.
# PYTHON chooses the interpreter, 3.11 or newer; default: python3, else the newest python3.N on the PATH.
# Does nothing if .venv already fits the interpreter, this folder, the lock and pyproject.toml.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")"
unset PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_HASHES

stop() {
    printf 'setup: %s\n' "$1" >&2
    exit 2
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        set -- "$PYTHON"
    else
        set -- python3 python3.13 python3.12 python3.11 python3.14
    fi
    for candidate in "$@"; do
        if new_enough "$candidate"; then
            printf '%s' "$candidate"
            return
        fi
    done
    found=$("$1" --version 2>&1) || found='nothing that runs'
    stop "Python 3.11 or newer is needed, but $1 is $found: install one, or name it: PYTHON=/path/to/python3.12 make setup"
}

python=$(find_python)
interpreter=$(printf '%s' "$("$python" -c 'import sys; print(sys.version, sys.base_prefix)'; pwd -P)" | cksum)
packages=$(cksum <requirements.lock)
project=$(cat pyproject.toml setup.sh | cksum)
stamp=.venv/.tidegate # what .venv was made with, a line each
made=$(cat "$stamp" 2>/dev/null) || made=''
made_with() {
    [ -x .venv/bin/python ] && case $made in "$1"*) true ;; *) false ;; esac
}

nl='
'
if made_with "$interpreter$nl$packages$nl$project"; then
    exit 0
fi
rm -f "$stamp"

if ! made_with "$interpreter$nl"; then
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        stop "$("$python" --version) lacks venv or ensurepip: install them (Debian, Ubuntu: apt install python3-venv), or name another interpreter: PYTHON=... make setup"
    echo "setup: making .venv with $("$python" --version)"
    "$("$python" -c 'import sys; print(sys._base_executable)')" -m venv --clear .venv ||
        stop ".venv could not be made in $(pwd): see above (no space, or no permission to write?)"
fi

if ! made_with "$interpreter$nl$packages$nl"; then
    echo "setup: installing $(grep -c '^[a-z].*==' requirements.lock) packages; the first time about 200 MB are downloaded"
    .venv/bin/python -m pip install --disable-pip-version-check --no-deps --require-hashes --progress-bar on -r requirements.lock ||
        stop "a package could not be downloaded or installed: see above. Check the network (behind a proxy set HTTPS_PROXY, for a mirror PIP_INDEX_URL, for its certificate PIP_CERT) and the free space, then run the same command again"
fi

.venv/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation --quiet --editable . ||
    stop "tidegate itself could not be installed into .venv: see above"
printf '%s\n' "$interpreter" "$packages" "$project" >"$stamp"
echo "setup: ready"
