#!/bin/sh
# Installs the service and what it needs at run time, in three steps that the image can cache apart.
# Knows no image: the Dockerfile and tests/deploy call it alike, from the root, with uv on the PATH.
set -eu

case "${1:-}" in
dependencies) # VENV
    uv venv "$2"
    # Names come from pyproject.toml, so no extra (the development tools) gets in; versions and hashes come
    # from the lock. A package that the lock does not name, or a file with another hash, stops the install.
    uv pip install --python "$2/bin/python" --require-hashes --no-build -r pyproject.toml -c requirements.lock
    ;;
wheel) # FOLDER
    uv build --wheel --require-hashes --build-constraints deploy/build.lock --out-dir "$2"
    ;;
service) # VENV FOLDER
    uv pip install --python "$2/bin/python" --no-deps --offline "$3"/*.whl
    ;;
*)
    echo "usage: $0 dependencies VENV | wheel FOLDER | service VENV FOLDER" >&2
    exit 2
    ;;
esac
