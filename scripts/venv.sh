# Sourced by the other scripts: make .venv and install into it, only when something changed.
# use_venv TARGET   TARGET is what pip installs in editable form: "." or ".[test]"

find_python() {
    local name
    for name in "${PYTHON:-python3}" python3.11 python3.12 python3.13 python3.14; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "Slotfleet needs Python 3.11 or newer; set PYTHON to its path" >&2
    return 1
}

use_venv() {
    local target=$1 stamp want
    if [ ! -x .venv/bin/pip ]; then
        local python
        python=$(find_python) || exit 1
        "$python" -m venv .venv
    fi
    stamp=".venv/installed-${target//[^a-z]/}"
    want=$(.venv/bin/python -c 'import hashlib, sys
print(hashlib.sha256(open("pyproject.toml", "rb").read()).hexdigest(), sys.prefix)')
    # What the tests need includes what the program needs.
    if ! grep -qsxF "$want" "$stamp" .venv/installed-test; then
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -e "$target"
        echo "$want" >"$stamp"
    fi
    # Where imports don't leave bytecode behind, every start would compile everything anew.
    .venv/bin/python -m compileall -q node cluster
    export PATH="$PWD/.venv/bin:$PATH"
}
