#!/bin/sh
# Compiles the lock files: every version with its hashes, and no address of an index.
set -eu
cd "$(dirname "$0")/.."
compile() {
    uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-header --no-annotate "$@"
}
compile pyproject.toml --extra embedded -c requirements/constraints.in -o requirements/runtime.txt
compile pyproject.toml requirements/dev.in --extra embedded \
    -c requirements/runtime.txt -c requirements/constraints.in -o requirements/dev.txt
compile requirements/build.in -c requirements/dev.txt -o requirements/build.txt
compile requirements/fuzz.in -o requirements/fuzz.txt
compile requirements/capacity.in -c requirements/dev.txt -o requirements/capacity.txt
compile requirements/s3.in -o requirements/s3.txt
