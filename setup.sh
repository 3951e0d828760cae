#!/bin/sh
# Create .venv in this folder: install every package of requirements.lock, verified by its hash, then tidegate, editable.
# PYTHON selects the interpreter, 3.11 or newer; default: python3, else python3.13, 3.12, 3.11 or 3.14 on the PATH.
# Does nothing if .venv matches the interpreter, this folder, the lock and pyproject.toml.
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
    version=$("$1" --version 2>&1) || version='not executable'
    stop "Python 3.11 or newer is needed, but $1 is $version: install one, or select it: PYTHON=/path/to/python3.12 make setup"
}

python=$(find_python)
interpreter=$(printf '%s' "$("$python" -c 'import sys; print(sys.version, sys.base_prefix)'; pwd -P)" | cksum)
packages=$(cksum <requirements.lock)
project=$(cat pyproject.toml setup.sh | cksum)
record=.venv/.tidegate # the inputs of .venv, one per line
recorded=$(cat "$record" 2>/dev/null) || recorded=''
matches() {
    [ -x .venv/bin/python ] && case $recorded in "$1"*) true ;; *) false ;; esac
}

nl='
'
if matches "$interpreter$nl$packages$nl$project"; then
    exit 0
fi
rm -f "$record"

if ! matches "$interpreter$nl"; then
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        stop "$("$python" --version) lacks venv or ensurepip: install them (Debian, Ubuntu: apt install python3-venv), or select another interpreter: PYTHON=... make setup"
    echo "setup: creating .venv with $("$python" --version)"
    "$("$python" -c 'import sys; print(sys._base_executable)')" -m venv --clear .venv ||
        stop ".venv could not be created in $(pwd): see above (disk full, or no write permission?)"
fi

if ! matches "$interpreter$nl$packages$nl"; then
    echo "setup: installing $(grep -c '^[a-z].*==' requirements.lock) packages (about 200 MB to download at first)"
    .venv/bin/python -m pip install --disable-pip-version-check --no-deps --require-hashes --progress-bar on -r requirements.lock ||
        stop "a package could not be downloaded or installed: see above. Check the network (behind a proxy set HTTPS_PROXY, for a mirror PIP_INDEX_URL, for its certificate PIP_CERT) and the free space, then run the same command again"
fi

.venv/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation --quiet --editable . ||
    stop "tidegate itself could not be installed into .venv: see above"
printf '%s\n' "$interpreter" "$packages" "$project" >"$record"
echo "setup: ready"
